"""The rule for mathematics, and the process that compares."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from spellings import spellings

from gtalign_jax.rewards.judges.base import BINARY, Question
from gtalign_jax.rewards.rules import latex, mathematics, verifier
from gtalign_jax.rewards.rules.answers import final_answer


def judge(response, truth):
  return mathematics.judge(
    Question("0", "math", "", truth, response, BINARY, "", mathematics.judge)
  )


def boxed(answer):
  return f"So \\boxed{{{answer}}}."


RIGHT = {
  "numbers": [
    ("0.5", r"\frac{1}{2}"), ("7", "7.0"), ("1,000", "1000"), ("1{,}000", "1000"), (r"12\,345", "12345"),
    ("12 345", "12345"), ("1.234,5", "1234.5"), ("1,000.50", "1000.5"), (".185", "0.185"), ("-5", "\u22125"),
    (r"\dfrac34", "0.75"), (r"\frac{-1}{2}", "-0.5"), ("-1./3", r"-\frac{1}{3}"), ("½", "0.5"),
    (r"0.\overline{36}", r"\frac{4}{11}"), ("1011", "1011_2"), (r"12_{\text{five}}", "12_5"),
  ],
  "mixed numbers": [
    (r"1\frac{1}{2}", "1.5"), (r"2\frac12", r"\frac{5}{2}"), ("3 1/2", "3.5"), ("1½", "1.5"),
    (r"-3\tfrac{1}{4}", "-3.25"), (r"1\frac{2}{3}\pi", r"\frac{5\pi}{3}"), (r"2\frac{1}{x}", r"\frac{2}{x}"),
    (r"3^2\frac{1}{3}", "3"), (r"\frac{81}{32}\pi", r"\frac{81\pi}{32}"), (r"2^\frac{1}{2}", r"\sqrt{2}"),
  ],
  "powers of ten": [
    (r"3.0 \times 10^{8}\ \mathrm{m/s}", "3e8"), ("1.5E+16", "15000000000000000"), ("1e-05", "0.00001"),
    (r"8.71 \times 10^8", "8.7e8"), ("3.0 x 10^8", "3e8"), ("4.52e33", "4.5e33"), ("10⁻³", "1e-3"),
  ],
  "digits shown": [
    ("3.1416", "3.14"), (r"2\pi", "6.28"), ("1.618", r"\frac{1+\sqrt5}{2}"), ("0.667", r"\frac23"),
    ("0.666", r"\frac23"), ("0.33", r"\frac13"), (r"\sqrt{2} \approx 1.414", r"\sqrt2"),
  ],
  "several": [
    (r"x=1 \text{ or } x=-2", "1,-2"), (r"x = \pm 3", "3,-3"), (r"2 \pm \sqrt{3}", r"2-\sqrt{3}, 2+\sqrt{3}"),
    (r"\{1,2\}", "2, 1"), ("6, 8, 10", r"6, 8\text{, and }10"), ("x=5, y=3", "(5,3)"), (r"x \in \{1,2\}", "1,2"),
    ("(2,15), (-4,27)", "(-4, 27);(2, 15)"), ("1,-1,i,-i", "i,-i,1,-1"), ("9, 4", "AB=9, CD=4"),
    (r"\{1,200\}", r"\{200,1\}"), (r"\frac34 \text{ or } 0.75", "0.75"),
    (r"\pm 1, \pm i", "1,-1,i,-i"), (r"\sqrt2 \approx 1.41, 3", r"3, \sqrt2"),
  ],
  "intervals": [
    (r"x \le 3", r"(-\infty, 3]"), ("[3, ∞)", r"x\ge3"), ("0<x<12.5", "(0,12.5)"), ("x ≤ 3", r"(-\infty,3]"),
    (r"x < -1 \text{ or } x > 4", r"(4,\infty) \cup (-\infty,-1)"), (r"1 < x \text{ and } x \le 5", "(1,5]"),
    (r"\mathbb{R}\setminus\{-4,-2\}", r"(-\infty,-4)\cup(-4, -2)\cup(-2,\infty)"), (r"[-80,82]", r"-80\leq g(x)\leq 82"),
    (r"x \neq 1", r"(-\infty, 1)\cup(1, \infty)"), (r"\text{all real numbers}", r"(-\infty,\infty)"),
    (r"8r^2 \ge s^2", r"s^2 \le 8r^2"),
  ],
  "expressions": [
    (r"\sqrt{2}/2", r"\frac{1}{\sqrt{2}}"), (r"2\pi r", r"2r\pi"), ("x²", "x^2"), ("√(x+1)", r"\sqrt{x+1}"),
    (r"e^{i\pi/3}", r"\frac{1+i\sqrt{3}}{2}"), ("(x+1)(x+4)", "x^2+5x+4"), (r"1-\sin^2\alpha", r"\cos^2\alpha"),
    ("10x-y=4", "y=10x-4"), ("f(x)=x^2", "x^2"), ("5=x", "5"), ("2+3=5", "5"), (r"10 \choose 2", "45"),
    ("2*sqrt(3)", r"\sqrt{12}"), (r"\begin{bmatrix}1&2\\3&4\end{bmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
    ("3:4", "6:8"), ("3{:}30", "3:30"), ("3:30 PM", r"3:30\text{ p.m.}"),
  ],
  "units": [
    (r"5\,\mathrm{cm}^2", "5"), ("5 cm", "5"), (r"100\text{ mm}", r"10\text{ cm}"), (r"\$1,000", "1000"),
    ("1657 dollars", r"\$1,\!657"), (r"50\%", "0.5"), (r"50\%", "50"), ("1.78", r"178\%"), (r"10^\circ", "10"),
    (r"90^\circ", r"\frac{\pi}{2}"), (r"25\text{ cm}^2", r"25\text{ square centimeters}"), ("9.25m", r"\frac{37}{4} m"),
    ("8.24", r"\approx 8.24 \text{ mph}"),
  ],
  "words": [
    (r"\text{(A)}", "A"), (r"\textbf{(B)}\ 12", "12"), (r"\textbf{(B)}\ 12", "B"), ("October 30th", r"\text{October 30}"),
    ("may", r"\text{May}"),
    ("30 October", r"\text{October 30}"), (r"\varnothing", r"\text{no solution}"), (r"\text{DNE}", r"\text{does not exist}"),
    (r"\text{twenty-one}", "21"), (r"\text{A,D}", r"\text{A, D}"),
  ],
}  # fmt: skip

WRONG = {
  "commas": [
    ("100", "(0,100)"), ("(5,240)", "5240"), ("[0,125]", "(0,125)"), ("1728", "1331,1728"), ("3,4,4", "3,4"),
    ("(12,500)", "12500"), ("1,20", "120"),
  ],
  "mixed numbers": [
    (r"\frac{11}{2}", r"1\frac{1}{2}"), (r"\frac{1291}{3}", r"129\frac{1}{3}"), (r"2^\frac{1}{2}", "1"),
    (r"\frac{80}{9\pi}", r"\frac{80}{9}\pi"), (r"\frac{2}{3x}", r"\frac{2}{3}x"), (r"-1\frac{1}{2}", "-0.5"),
  ],
  "digits": [
    ("1.04", "1.0"), ("3.2", "3.14"), ("8.75e8", "8.7e8"), ("6.7e-8", "6.67e-8"), ("0.7", r"\frac23"),
    ("0.13", r"\frac18"), ("1.619", r"\frac{1+\sqrt5}{2}"), ("1.5e-16", "1.5e16"), ("0.334", r"\frac13"),
  ],
  "tiny and huge": [
    (r"\frac{1}{2^{98}}", r"\frac{1}{2^{99}}"), (r"\frac{1}{2006!}", r"\frac{1}{2004!}"), ("10^{50}+1", "10^{50}"),
    ("10^{-7}", "10^{-8}"),
  ],
  "structure": [
    ("(3,4)", r"\{3,4\}"), ("(1,2]", "(1,2)"), ("(2, 1)", "(1,2)"), (r"[3,7]\cup[8,9]", r"[3,7] \cup [8,9)"),
    ("x < 3", r"(-\infty, 3]"), ("-2<y<2", "-2<x<2"), ("x=5", "y=5"), ("28_8", "28_9"), ("1:3", "1:2"),
    ("5:15", "10:30"), ("4:1", "1:4"), (r"3:30 \text{ p.m.}", r"3:30\text{ a.m.}"),
    (r"\begin{pmatrix}1&3\\2&4\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
  ],
  "expressions": [
    (r"2\pi R", r"2\pi r"), ("|x|", "x"), (r"\sqrt{x^2}", "x"), ("y=-x", "y=x"), ("2=2", "x=x"), ("-i", "i"),
    (r"\infty", r"-\infty"), ("x^3", "x^2"), (r"s^2 \ge 8r^2", r"s^2 \le 8r^2"), ("5x", "5"), ("", "0"),
  ],
  "units and words": [
    (r"10\text{ inches}", r"10\text{ cm}"), (r"25\text{ cm}^3", r"25\text{ square centimeters}"),
    (r"20\text{ hours}", r"20\text{ days}"), (r"50\%", "5000"), ("November 30", r"\text{October 30}"),
    ("30", r"\text{October 30}"), (r"\text{(B)}", "A"), (r"\text{A, D}", r"\text{A, D, F}"), (r"\text{eight}", "7"),
  ],
  "hedges": [(r"7 \text{ or } 8", "7"), ("7, 8", "7"), (r"\pm 3", "3"), ("3", r"\pm 3"), (r"\frac34 \text{ or } 0.8", "0.75")],
}  # fmt: skip


def pairs(table):
  return [pytest.param(*pair, id=f"{kind}: {pair}") for kind, of in table.items() for pair in of]


@pytest.mark.parametrize(("answer", "truth"), pairs(RIGHT))
def test_the_same_in_another_spelling(answer, truth):
  assert judge(boxed(answer), truth) == 1


@pytest.mark.parametrize(("answer", "truth"), pairs(WRONG))
def test_look_alikes_are_different(answer, truth):
  assert judge(boxed(answer), truth) == 0


@pytest.mark.parametrize(
  ("response", "truth", "verdict"),
  [
    ("\\boxed{1} no, \\boxed{42}", "42", 1),
    ("\\boxed{42} no, \\boxed{1}", "42", 0),
    ("\\boxed{1} and \\boxed{-2}", "1,-2", 1),
    ("First \\boxed{1}. Then \\boxed{-2}.", "1,-2", 1),
    ("Either \\boxed{7} or \\boxed{8}", "7", 0),
    ("The answer is 1,000 dollars.", "1000", 1),
    ("The answer is $x = 7$, because 3 + 4 = 7.", "7", 1),
    ("The answer is $x = 1$ or $x = -2$.", "1,-2", 1),
    ("So $x=3$ or $x=-5$.", "3,-5", 1),  # formulas without "the answer is"
    ("So $x=3$ or \\(x=-5\\).", "-5", 0),
    ("We find $x=3$ and $x=-5$.", "-5,3", 1),
    ("We find $a=3$ and $b=-5$.", "-5", 1),  # of two things the last
    ("The answer is $(12,500)$.", "12500", 0),
    ("The answer is 42 or 41.", "42", 0),
    ("The answer is that there are 12 apples.", "12", 1),
    ("The answer is a Sunday.", "\\text{Sunday}", 1),
    ("**Answer:** -3", "-3", 1),
    ("Answer: (x+1)/(x-1)", "\\frac{x+1}{x-1}", 1),
    ("So we get **x = 5**.", "5", 1),
    ("\\[ x = \\frac{5}{3} \\]", "\\frac53", 1),
    ("It costs \\$5.", "5", 1),
    ("We end with 12 cases, so 42", "42", 1),
    ("\\boxed{unclosed", "3", 0),
    ("What did you try?", "3", 0),
    ("", "3", 0),
    ("\\boxed{3}", " ", None),  # some released rows have no truth
  ],
)
def test_the_final_answer_of_a_reply(response, truth, verdict):
  assert judge(response, truth) == verdict


TRUTHS = (
  "42", "-6", "1200", "33,\\!800,\\!000", "\\frac{7}{4}", "-\\frac{5}{6}", "2.75", "3\\sqrt{5}", "\\frac{2\\sqrt{6}}{5}",
  "7\\pi", "(2,-3)", "(-\\infty,4]", "[1,5)", "(-\\infty,-2)\\cup(2,\\infty)", "3,-8", "4+3\\sqrt{2}", "x^2+3x-1",
  "2-3i", "35^\\circ", "\\text{Friday}", "12\\text{ miles}", "y=3x-2", "101_2", "3:5", "\\frac{\\pi r}{h+r}",
)  # fmt: skip


@pytest.mark.parametrize("truth", TRUTHS)
def test_a_truth_in_other_spellings(truth):
  others = spellings(truth)
  assert len(others) >= 5
  assert [each for each in others if judge(each, truth) != 1] == []


@pytest.mark.slow
@pytest.mark.skipif("GTALIGN_DATA" not in os.environ, reason="needs the released prompts")
def test_released_truths_in_other_spellings():
  parquet = pytest.importorskip("pyarrow.parquet")
  folder = Path(os.environ["GTALIGN_DATA"]) / "math-hard"
  rows = [row for path in folder.glob("*.parquet") for row in parquet.read_table(path).to_pylist()]
  truths = {row["reward_model"]["ground_truth"] for row in rows} - {""}
  failed = [
    (each, truth) for truth in truths for each in spellings(truth) if judge(each, truth) != 1
  ]
  assert failed == []


@pytest.mark.parametrize(
  "answer",
  ["9^{9^{9^{9}}}", "10000000!", "((9!)!)!", "2^{10^{9}}", "10^{10^{10}}", "x^{x^{x^{x}}}",
   r"\binom{1000000}{500000}", r"\frac{5^{\left(5^{\left(5^{5}\right)}\right)}}{16}", r"\sum_{k=1}^{10^{9}}k",
   r"\frac{1}{" * 60 + "2" + "}" * 60, "{" * 190 + "1" + "}" * 190],
)  # fmt: skip
def test_what_grows_beyond_bounds_is_wrong_at_once(answer, monkeypatch):
  """…and never reaches sympy."""
  monkeypatch.setattr(verifier, "equal", lambda *_: pytest.fail("asked sympy"))
  began = time.process_time()
  assert judge(boxed(answer), "\\sqrt{2}") == 0
  assert time.process_time() - began < 0.1
  assert judge(boxed("2^{10^{9}}"), "2^{10^{9}}") == 1


@pytest.mark.parametrize(
  "answer",
  [r"\int_0^1 e^{x^2} dx", "x+" * 190 + "x", "(x+y+z)^{2000}", r"\sqrt{" * 30 + "x" + "}" * 30, r"\sin " * 60 + "x",
   "9" * 390, "1e999999999", "(" * 190 + "1" + ")" * 190, "(" * 30 + "x" + ")^{9}" * 30,
   ",".join(f"x+{n}" for n in range(39)), r"\prod_{k=1}^{99}\Gamma(k)",
   r"\{x|x<" * 40 + "1" + r"\}" * 40],  # sets in sets: each part is read once
)  # fmt: skip
def test_a_verdict_costs_little(answer):
  judge(boxed(r"\sqrt{3}+1"), r"1+\sqrt{3}")  # the process is there
  began = time.monotonic()
  assert (
    judge(boxed(answer), ",".join(f"y+{n}" for n in range(39)) if "," in answer else "x+1") == 0
  )
  # 0.15 s of CPU; the clock on the wall also counts who else is at work here
  assert time.monotonic() - began < 3


REPEATED = ("\\boxed{", "\\boxed{1} ", "**", "**a ", "$", "$a", "\\[", "\\(a", "answer is ", "answer ", "answer:\n",
            "or 1 ", "1.", "1,000", "(", "[1,", "{", "\\frac", "^", "\\text{", "\\text{a} ", "x=", "1 and ", "-", "√",
            "\\left(", "5 cm ", "1:", "<x", "%")  # fmt: skip


@pytest.mark.parametrize("piece", REPEATED)
def test_time_grows_with_length_only(piece):
  def seconds(times):
    began = time.process_time()
    for around in ("{}", "\\boxed{{{}", "The answer is {}x", "1 \\boxed{{{}}}"):
      judge(around.format(piece * (times // len(piece))), "42")
    return time.process_time() - began

  short = min(seconds(10_000) for _ in range(2))
  assert min(seconds(40_000) for _ in range(2)) < 8 * short + 0.05


def test_looks_do_not_change_what_is_compared():
  assert mathematics.normal(r"\left( \dfrac12 , \sqrt 2 \right)") == r"(\frac{1}{2},\sqrt{2})"
  assert mathematics.normal("1 1/4") == "1 1/4"
  assert mathematics.normal(r"\alpha x \le 3\%") == r"\alpha x\le3%"
  assert mathematics.normal(r"5 \text{ square cm}") == r"5\text{square}\text{cm}"
  once = mathematics.normal(r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}")
  assert once == r"\begin{pmatrix}1\\2\end{pmatrix}" == mathematics.normal(once)
  with pytest.raises(latex.TooDeep):
    latex.tokens("{" * 100)


def test_the_answer_is_found_without_words_around_it():
  assert final_answer("Area: $x^2$. The result is $y$.") == "$y$"
  assert final_answer("no numbers here") is None


def test_comparing_works_in_any_thread():
  got = []
  threads = [
    threading.Thread(target=lambda n=n: got.append((n, verifier.equal("\\sqrt{4}", str(n)))))
    for n in range(4)
  ]
  for each in threads:
    each.start()
  for each in threads:
    each.join()
  assert dict(got) == {0: False, 1: False, 2: True, 3: False}


def test_the_process_survives_what_it_is_asked():
  """Long Python work, one long C function, and a killed process cost one verdict at most."""
  equal, child = verifier.equal, lambda: verifier._shared.process
  assert equal("2\\sqrt{3}", "\\sqrt{12}") is True
  before = child().pid
  began = time.monotonic()
  assert equal("\\sqrt{2}", "9^{9^{9}}") is False  # one C function: the kernel ends it
  assert time.monotonic() - began < 5
  assert equal("2", "2") is True and child().pid == before  # no new start, which takes seconds
  spent = verifier.Budget()
  spent.left = 0.0
  assert equal("2", "2", "", spent) is False
  worker = children(before)[0]
  child().kill()
  child().wait()
  assert equal("2", "2") is True and child().pid != before
  wait_for(lambda: is_gone(worker))


def test_a_process_that_hangs_is_no_verdict(monkeypatch):
  verifier.equal("2", "2")
  worker = int(children(verifier._shared.process.pid)[0])
  os.kill(worker, signal.SIGSTOP)
  monkeypatch.setattr(verifier, "DEADLINE_S", 0.2)
  assert verifier.equal("2", "3") is None
  os.kill(worker, signal.SIGCONT)


def children(pid):
  return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def wait_for(condition, seconds=30):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.05)


def is_gone(pid):
  try:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
  except OSError:
    return True


RUN = """
import json, os, sys, threading
from gtalign_jax.rewards.rules import verifier
verifier.equal("2", "2")
pid = verifier._shared.process.pid
threading.Timer(0.1, lambda: print(json.dumps(pid), flush=True)).start()
while True:
  verifier.equal("\\\\sqrt{2}", "9^{9^{9}}")
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")
def test_a_killed_run_leaves_no_process_behind():
  run = subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE)
  child = json.loads(run.stdout.readline())
  limits = Path(f"/proc/{child}/limits").read_text()
  assert (
    next(line for line in limits.splitlines() if "address space" in line).split()[3] != "unlimited"
  )
  family = [child, *map(int, children(child))]
  run.kill()
  run.wait()
  run.stdout.close()
  wait_for(lambda: all(map(is_gone, family)))
