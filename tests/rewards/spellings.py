"""Other spellings of an answer that mean the same: what a model may write for a released truth."""
# ruff: noqa: RUF001 (look-alikes of ASCII signs are meant)

import re
from fractions import Fraction

INTEGER = re.compile(r"-?\d+")
FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
# one level of braces inside is enough for what follows a \frac here
PAIR = re.compile(r"([(\[])\s*(?:\\left)?([^,()\[\]]+),([^,()\[\]]+)([)\]])")
LETTERS = {
  "\\pi": "π",
  "\\infty": "∞",
  "\\cup": "∪",
  "\\cdot": "·",
  "\\le": "≤",
  "\\alpha": "α",
  "\\theta": "θ",
}


def spellings(truth):
  """Replies that state `truth` in other words, at least five for every truth."""
  truth = truth.strip()
  forms = [truth, *filter(None, (form(truth) for form in FORMS))]
  replies = [f"So \\boxed{{{each}}}." for each in dict.fromkeys(forms)]
  return [
    *replies[1:],
    f"\\boxed{{\\displaystyle {truth}}}",
    f"We add up. The final answer is ${truth}$.",
    f"After 3 steps:\n\n**Answer:** ${truth}$",
    f"From $a+b=7$ we are left with $$ R = {truth}. $$"
    if re.fullmatch(r"[\d\\pi{}]+", truth)
    else f"\\boxed{{{truth}.}}",
    f"Thus \\[ \\boxed{{ \\; {truth} \\, }} \\]",
  ]


def spaced(truth):
  """Spaces around signs."""
  if "\\text" in truth or ("," in truth and INTEGER.fullmatch(truth.replace(",", ""))):
    return None
  return (
    re.sub(r"(?<![{(\[^,=])([+\-=])(?!.*\\!)", r" \1 ", truth).replace(",", ",\\ ")
    if "\\!" not in truth
    else None
  )


def squeezed(truth):
  """No spaces but those that end a command."""
  if "\\text" in truth:
    return None
  return re.sub(r"(\\[a-zA-Z]+) (?=[a-zA-Z])|\s+", lambda m: m[1] + " " if m[1] else "", truth)


def display(truth):
  return re.sub(r"\\t?frac(?![a-zA-Z])", r"\\dfrac", truth)


def sized(truth):
  """\\left( … \\right)"""
  if "\\left" in truth or not re.search(r"[(\[]", truth):
    return None
  out = re.sub(r"(?<!\\sqrt)([(\[])", r"\\left\1", truth)
  return re.sub(r"([)\]])", r"\\right\1", out) if "\\sqrt[" not in truth else None


def unicode(truth):
  for name, sign in LETTERS.items():
    truth = re.sub(re.escape(name) + r"(?![a-zA-Z])\s*", sign, truth)
  return (
    truth.replace("-", "\u2212")
    .replace("^{\\circ}", "°")
    .replace("^\\circ", "°")
    .replace("^2", "²")
  )


def unicode_root(truth):
  return re.sub(r"\\sqrt(?:\s*(\d)|\{(\d+)\})", lambda m: f"√{m[1] or m[2]}", truth)


def plain(truth):
  """As in plain text: sqrt(3)/2, 2*pi."""
  if "\\text" in truth or "sqrt[" in truth or "\\sec" in truth:
    return None
  out = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", truth)
  out = re.sub(r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)", out)
  return re.sub(r"(?<=\d)\s*\\pi", "*pi", out) if "\\frac" not in out else None


def slashed(truth):
  return FRACTION.sub(r"\1\2/\3", truth) if FRACTION.fullmatch(truth) else None


def number_of(truth):
  match = FRACTION.fullmatch(truth)
  if match:
    return Fraction(int(match[1] + match[2]), int(match[3]))
  return Fraction(truth) if re.fullmatch(r"-?\d+(?:\.\d+)?", truth) else None


def decimal(truth):
  value = number_of(truth)
  if value is None or value.denominator == 1:
    return None
  return (
    f"{float(value):.4f}".rstrip("0") if 10**4 % value.denominator == 0 else f"{float(value):.6g}"
  )


def ratio(truth):
  value = number_of(truth)
  return (
    f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
    if value is not None and "." in truth
    else None
  )


def mixed(truth):
  value = number_of(truth)
  if value is None or value.denominator == 1 or abs(value) < 1:
    return None
  whole, rest = divmod(abs(value.numerator), value.denominator)
  return f"{'-' if value < 0 else ''}{whole}\\frac{{{rest}}}{{{value.denominator}}}"


def thousands(mark):
  def form(truth):
    return (
      f"{int(truth):,}".replace(",", mark)
      if INTEGER.fullmatch(truth) and abs(int(truth)) > 999
      else None
    )

  return form


def scientific(mark):
  def form(truth):
    digits = truth.rstrip("0")
    return (
      f"{digits}{mark[0]}{len(truth) - len(digits)}{mark[1]}"
      if INTEGER.fullmatch(truth) and truth != digits and digits
      else None
    )

  return form


def as_float(truth):
  return f"{int(truth)}.0" if INTEGER.fullmatch(truth) else None


def with_unit(unit):
  return lambda truth: f"{truth}{unit}" if number_of(truth) is not None else None


def unit_in_words(truth):
  match = re.search(r"\\text\{([^{}]*)\}", truth)
  return (
    truth.replace(match[0], f" {match[1].strip()}")
    if match and truth[:1].isdigit() and "," not in truth
    else None
  )


def without_unit(truth):
  bare = re.sub(r"\s*(?:\\text\{[^{}]*\}|\^\\circ)$", "", truth).replace("\\$", "").strip()
  return bare if bare != truth and re.fullmatch(r"[\d.,\\!]+", bare) else None


def named(truth):
  single = not re.search(r"[,;=<>]|\\le|\\text|\\cup|\\approx|_", truth)
  return f"x = {truth}" if single else None


def in_set(truth):
  return f"x \\in {truth}" if re.search(r"\\infty|\[[^\]]*\)|\([^)]*\]", truth) else None


def inequality(truth):
  """(a, b] as a < x \\le b."""
  match = PAIR.fullmatch(truth)
  if not match or re.search(r"[a-z\\]", truth.replace("\\infty", "")):
    return None
  low, high = match[2].strip(), match[3].strip()
  left, right = ("<" if match[1] == "(" else "\\le"), ("<" if match[4] == ")" else "\\le")
  if low == "-\\infty":
    return f"x {right} {high}" if high != "\\infty" else None
  if high == "\\infty":
    return f"x {'>' if left == '<' else '≥'} {low}"
  return f"{low} {left} x {right} {high}"


def parts_of(truth):
  if (
    re.search(r"[(\[{]", truth.replace("\\frac{", "").replace("\\sqrt{", ""))
    or "\\text" in truth
    or "=" in truth
    or "\\!" in truth
  ):
    return []
  parts = [part.strip() for part in truth.split(",")]
  return parts if len(parts) > 1 and all(parts) else []


def reversed_list(truth):
  return ", ".join(reversed(parts_of(truth))) or None


def joined(word):
  return lambda truth: (
    f" \\text{{ {word} }} ".join(f"x = {part}" for part in parts_of(truth)) or None
  )


def braced(truth):
  return "\\{" + ", ".join(parts_of(truth)) + "\\}" if parts_of(truth) else None


def swapped(truth):
  """a + b as b + a, at top level."""
  match = re.fullmatch(
    r"([^+\-,=()\[\]{}_:\s\\]+|\d*\\(?:sqrt|frac)\{[^{}]*\}(?:\{[^{}]*\})?)\s*\+\s*([^+\-,=()\[\]:]+)",
    truth if "\\text" not in truth else "",
  )
  return f"{match[2]} + {match[1]}" if match else None


def worded(truth):
  match = re.fullmatch(r"\\text\{([^{},]*)\}", truth)
  return match[1] if match else None


def lowered(truth):
  return truth.lower() if re.fullmatch(r"\\text\{[^{},]*\}", truth) else None


FORMS = (
  spaced, squeezed, display, sized, unicode, unicode_root, plain, slashed, decimal, ratio, mixed,
  thousands(","), thousands("{,}"), thousands("\\,"), thousands(" "), thousands(",\\!"),
  scientific((" \\times 10^{", "}")), scientific(("e+", "")), scientific((" \\cdot 10^", "")),
  as_float, with_unit(" \\text{ cm}"), with_unit("\\ \\mathrm{m/s}"), with_unit(" dollars"),
  unit_in_words, without_unit, named, in_set, inequality, reversed_list, joined("or"), joined("and"),
  braced, swapped, worded, lowered,
)  # fmt: skip
