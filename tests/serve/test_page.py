"""The page of `gtalign serve` in a real browser: what a reader sees, sends and can reach."""

import os
import shutil
import threading

import numpy as np
import pytest
import scripted
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright
from scripted import RESPONSES
from serving import OPTIONS, ScriptedLanes, model, serving

from gtalign_jax.game import pricing
from gtalign_jax.rollout import edit
from gtalign_jax.types import CELLS

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
  not CHROMIUM, reason="no Chromium: apt-get install chromium, or name one in $CHROMIUM"
)
QUESTION = "Book me a table for tonight."
THINKING = "The request leaves the number open. So it is VQ."
# tenths; answering and asking as well leads for a vague question, until tokens are dear
MATRIX_UAR = np.array([[[40, 30], [10, -10], [30, 20]], [[10, 0], [20, 20], [35, 40]]])
MARKUP = "<img src=x onerror=\"document.title = 'taken'\"><b>bold</b>"
expect.set_options(timeout=20_000)  # ms: two workers share two cores with the browser


def write(ids, number):
  """A chain that goes by its matrix; markup, or no chain, where the question says so."""
  text = scripted.tokenizer().decode(ids)
  question = text.rpartition("<|im_start|>user\n")[2]
  if "plain" in question:
    return scripted.encode("I am no chain.")
  said = MARKUP if "markup" in question else ""
  head = "" if text.endswith(edit.STOP) else scripted.opening(MATRIX_UAR, f"{said} {THINKING}")
  rest = scripted.rest(scripted.choice(text + head), f"{said} So it is")
  return scripted.encode(head + rest.replace("</response>", f"{said}</response>"))


class Passes:
  """A gate that lets so many segments through and then holds."""

  def __init__(self, count):
    self._left = threading.Semaphore(count)

  def wait(self, seconds):
    return self._left.acquire(timeout=seconds)

  def open(self):
    self._left.release(10_000)


@pytest.fixture(scope="module")
def server():
  """Address of a server whose lanes `write` writes into."""
  with serving(ScriptedLanes(write), model()) as (address, _):
    yield address


@pytest.fixture(scope="module")
def browser():
  # Chromium's sandbox cannot start as root, which containers run as
  args = ["--no-sandbox"] if os.geteuid() == 0 else []
  with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=args)
    yield browser
    browser.close()


@pytest.fixture
def visit(browser):
  """visit(address, **settings of the browser) -> the page; `page.sent`: bodies that it has sent."""
  opened, wrong = [], []

  def open_page(address, **settings):
    context = browser.new_context(**settings)
    opened.append(context)
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.sent = []
    page.on("pageerror", lambda error: wrong.append(error))
    page.on("request", lambda each: each.method == "POST" and page.sent.append(each.post_data_json))
    page.goto(address)
    return page

  yield open_page
  for context in opened:
    context.close()
  assert not wrong, wrong


@pytest.fixture
def chat(server, visit):
  page = visit(server)
  expect(page.locator("#model")).to_have_text("tiny")
  return page


def ask(page, question=QUESTION, policy="no price"):
  page.select_option("#policy", policy)
  page.fill("#question", question)
  page.keyboard.press("Enter")
  return page.locator(".play").last


def over(page):
  expect(page.locator("#send")).to_be_visible()


def test_an_answer_shows_its_game(chat):
  play = ask(chat, policy="pay_per_token")
  over(chat)
  edited_UAR = pricing.apply(pricing.PRESETS["pay_per_token"], MATRIX_UAR / 10)
  numbers = zip(CELLS, edited_UAR.reshape(6, 2), MATRIX_UAR.reshape(6, 2) / 10)
  for name, now_R, was_R in numbers:
    for role, now, was in zip(("LLM", "user"), now_R, was_R):
      text = f"{role} {now} was {was}" if now != was else f"{role} {now}"
      expect(play.locator(f"[data-cell={name}]")).to_contain_text(text.replace("-", "\u2212"))
  expect(play.locator(".named")).to_have_count(1)
  expect(play.locator(".named")).to_contain_text("named")
  assert play.locator(".named").get_attribute("data-cell") == "VQ_AQ"
  expect(play.locator(".matrix th")).to_have_text(
    ["answer (DA)", "ask (CQ)", "answer + ask (AQ)", "definite (DQ)", "vague (VQ)"]
  )
  decision = (
    "read the question as vague (VQ); its analysis names answer + ask (AQ), the rule's choice."
  )
  expect(play).to_contain_text(decision)
  expect(play.locator(".response")).to_have_text(RESPONSES["AQ"])
  expect(play.get_by_text(THINKING)).to_be_hidden()
  expect(chat.get_by_text("the outlined cell")).to_be_hidden()
  play.locator("summary").first.click()
  expect(play.get_by_text(THINKING)).to_be_visible()
  assert chat.sent[-1]["pricing"] == "pay_per_token"


def test_the_slider_scales_a_policy_and_without_one_nothing_is_edited(chat):
  chat.select_option("#policy", "pay_per_character")
  chat.focus("#price")
  for _ in range(7):
    chat.keyboard.press("ArrowRight")
  cost = "LLM +0.00085, user \u22120.00425 points a character"
  expect(chat.locator("#cost")).to_have_text(cost)
  chat.fill("#question", QUESTION)
  chat.keyboard.press("Enter")
  over(chat)
  sent = pricing.from_table("sent", chat.sent[-1]["pricing"])
  wanted = pricing.at_price(pricing.PRESETS["pay_per_character"], 0.00425)
  assert sent.price_per_character == wanted.price_per_character
  assert sent.name == "pay per character at 0.00425"
  play = ask(chat)
  over(chat)
  expect(chat.locator("#price")).to_be_disabled()
  expect(play.locator(".was")).to_have_count(0)
  assert "pricing" not in chat.sent[-1]


@pytest.mark.parametrize("width", [320, 1600])
def test_a_question_is_replayed_under_several_prices(server, visit, width):
  page = visit(server, viewport={"width": width, "height": 900})
  ask(page)
  over(page)
  page.select_option("#policy", "pay_per_token")
  page.fill("#price", "0.04")
  page.click("#add")
  page.click("#again")
  over(page)
  expect(page.locator(".several .matrix")).to_have_count(5)
  # the dearer a token, the less is answered at once
  expect(page.locator(".several .response").last).to_have_text(RESPONSES["CQ"])
  first, *replayed = page.sent
  names = [each.get("pricing") for each in replayed]
  assert names[:4] == [None, "subscription", "pay_per_token", "pay_per_character"]
  assert names[4]["name"] == "pay per token at 0.04"
  for each in replayed:
    assert (each["messages"], each["seed"]) == (first["messages"], first["seed"])
  top = "all => all.map(each => each.getBoundingClientRect().top)"
  tops = page.eval_on_selector_all(".several .matrix", top)
  assert len(set(tops[:3])) == (1 if width == 1600 else 3)
  assert page.evaluate("document.documentElement.scrollWidth") == width
  # what goes on is the conversation that the client sees: responses alone, and the first of them
  ask(page, "At eight, please.")
  over(page)
  assert page.sent[-1]["messages"] == [
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": RESPONSES["AQ"]},
    {"role": "user", "content": "At eight, please."},
  ]
  page.click("#new")
  expect(page.locator("article")).to_have_count(0)


def test_what_the_model_writes_is_text(chat):
  play = ask(chat, f"markup {MARKUP}")
  over(chat)
  for summary in play.locator("summary").all():
    summary.click()
  for where in (".response", "details >> nth=0", "details >> nth=1"):
    expect(play.locator(where)).to_contain_text(MARKUP)
  expect(chat.locator("article.user")).to_contain_text(MARKUP)
  assert chat.locator("img, main b").count() == 0
  assert "taken" not in chat.title()


def test_what_is_no_chain_is_told(chat):
  play = ask(chat, "plain")
  expect(play).to_contain_text("This chain cannot be read (missing_block)")
  expect(play.locator(".response")).to_have_text("I am no chain.")


def test_a_price_of_the_server_and_a_chain_that_is_cut_off_are_told(visit):
  options = OPTIONS._replace(pricing=pricing.PRESETS["subscription"])
  budget = len(write(scripted.encode(QUESTION), 0)) - 5
  with serving(ScriptedLanes(write), model(budget=budget), options) as (address, _):
    page = visit(address)
    play = ask(page)
    expect(play).to_contain_text("The server's own price: subscription.")
    expect(play).to_contain_text("Cut off: the answer's token budget ran out.")
  play = ask(page)
  expect(play.get_by_role("alert")).to_contain_text(f"does not answer at {address[7:]}")


def test_a_server_that_is_full_or_shuts_down_says_so(visit):
  lanes = ScriptedLanes(write, count=1)
  lanes.gate.clear()
  with serving(lanes, model(), OPTIONS._replace(queue=0)) as (address, service):
    first, second = visit(address, reduced_motion="reduce"), visit(address)
    ask(first)
    expect(first.locator(".waiting")).to_contain_text("1 s")
    moves = "getComputedStyle(document.querySelector('.waiting'), '::after').animationName"
    assert first.evaluate(moves) == "none"
    play = ask(second)
    expect(play.get_by_role("alert")).to_contain_text("The server's queue is full. Try again in")
    lanes.gate.set()
    over(first)
    play.get_by_role("button", name="Try again").click()
    expect(second.locator(".response")).to_have_text(RESPONSES["AQ"])
    assert second.get_by_role("alert").count() == 0
    lanes.gate.clear()
    ask(first)  # it ends once nothing is under way
    expect(first.locator(".waiting")).to_contain_text("1 s")
    service.closing = True
    expect(ask(second).get_by_role("alert")).to_contain_text("The server is shutting down.")
    lanes.gate.set()


def test_a_stream_that_breaks_off_is_told(chat):
  part = 'data: {"choices": [{"index": 0, "delta": {"content": "It is"}}]}\n\n'
  chat.route("**/completions", lambda route: route.fulfill(body=part))
  play = ask(chat)
  expect(play.get_by_role("alert")).to_contain_text("The connection to the server broke off.")
  expect(play.locator(".response")).to_have_text("It is")


def test_a_key_is_asked_for_and_kept_in_memory_only(visit):
  with serving(ScriptedLanes(write), model(), key="s3cret") as (address, _):
    page = visit(address)
    expect(page.locator("#secret")).to_be_focused()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    play = ask(page)
    expect(play.get_by_role("alert")).to_contain_text("The server refuses this key.")
    expect(page.locator("#secret")).to_be_focused()
    page.keyboard.type("s3cret")
    page.keyboard.press("Enter")
    expect(play.locator(".matrix")).to_be_visible()  # the question that failed was asked again
    kept = "[localStorage.length, sessionStorage.length, document.cookie]"
    assert page.evaluate(kept) == [0, 0, ""]
    assert "s3cret" not in page.content()


@pytest.mark.parametrize("key", ["Escape", "Stop"])
def test_an_answer_is_stopped(visit, key):
  lanes = ScriptedLanes(write, count=1)
  # segments of eight bytes: up to the middle of the response of an edited chain
  lanes.gate = Passes(len(write(scripted.encode(QUESTION), 0)) // 8 - 2)
  with serving(lanes, model()) as (address, _):
    page = visit(address)
    play = ask(page)
    expect(play.locator(".response")).not_to_be_empty()
    if key == "Escape":
      page.keyboard.press("Escape")
    else:
      page.get_by_role("button", name="Stop").click()
    expect(play).to_contain_text("Stopped.")
    over(page)
    expect(page.locator("#question")).to_be_focused()
    assert RESPONSES["AQ"].startswith(play.locator(".response").inner_text())
    lanes.gate.open()
    ask(page, "again")  # the lane is free again
    expect(page.locator(".response").last).to_have_text(RESPONSES["AQ"])


def test_a_system_message_leads_the_conversation(chat):
  chat.get_by_text("System message", exact=True).click()
  chat.fill("#system", "Two people are meant if none is named.")
  ask(chat)
  over(chat)
  lead = {"role": "system", "content": "Two people are meant if none is named."}
  assert chat.sent[-1]["messages"] == [lead, {"role": "user", "content": QUESTION}]


def test_by_keyboard(chat):
  expect(chat.locator("#question")).to_be_focused()
  chat.keyboard.type("one")
  chat.keyboard.press("Shift+Enter")
  chat.keyboard.type("two")
  chat.keyboard.press("Enter")
  over(chat)
  assert chat.sent[-1]["messages"][-1]["content"] == "one\ntwo"
  chat.select_option("#policy", "pay_per_token")
  chat.focus("#new")
  order = []
  for _ in range(15):
    chat.keyboard.press("Tab")
    order.append(chat.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert chat.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
  assert order == [
    *["SUMMARY"] * 4, *["INPUT"] * 5, "again", "add", "policy", "price", "question", "send",
  ]  # fmt: skip


def test_a_screen_reader_hears_sentences(chat):
  ask(chat)
  over(chat)
  first, last = RESPONSES["AQ"].split(". ")
  expect(chat.locator("#spoken p")).to_have_text(["The model is thinking.", f"{first}.", last])


@pytest.mark.parametrize(
  ("scheme", "rules"), [("light", {}), ("dark", {"runOnly": ["color-contrast"]})]
)
def test_nothing_that_axe_finds_and_nothing_from_elsewhere(server, visit, scheme, rules):
  page = visit(server, color_scheme=scheme, bypass_csp=True)
  asked = []
  page.on("request", lambda request: asked.append(request.url))
  page.reload()
  ask(page, policy="pay_per_token")
  over(page)
  page.click("#again")
  over(page)
  page.route("**/completions", lambda route: route.abort())
  ask(page)
  over(page)
  for summary in page.locator("summary").all():
    summary.click()
  found = Axe().run(page, options=rules).response["violations"]
  assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
  assert all(url.startswith((f"{server}/", "data:")) for url in asked)
