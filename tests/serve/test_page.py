"""The page of `gtalign serve` in a real browser: what a reader sees, sends and can reach."""

import os
import shutil

import page_server
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

from gtalign_jax.game import pricing

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
  not CHROMIUM, reason="no Chromium: apt-get install chromium, or name one in $CHROMIUM"
)
QUESTION = "Book me a table for tonight."
expect.set_options(timeout=20_000)  # ms: two workers share two cores with the browser


@pytest.fixture(scope="module")
def server():
  with page_server.running() as found:
    yield found


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
  """visit(address, **settings of the browser) -> the page, ready to be asked."""
  opened, wrong = [], []

  def open_page(address, **settings):
    context = browser.new_context(**settings)
    opened.append(context)
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.on("pageerror", lambda error: wrong.append(error))
    page.goto(address)
    return page

  yield open_page
  for context in opened:
    context.close()
  assert not wrong, wrong


@pytest.fixture
def chat(server, visit):
  page = visit(server[0])
  expect(page.locator("#model")).to_have_text("scripted")
  return page


def ask(page, question=QUESTION, policy="no price"):
  page.select_option("#policy", policy)
  page.fill("#question", question)
  page.keyboard.press("Enter")
  return page.locator(".play").last


def over(page):
  expect(page.locator("#send")).to_be_visible()


def test_an_answer_shows_its_game(server, chat):
  play = ask(chat, policy="pay_per_token")
  over(chat)
  _, game = page_server.play({"pricing": "pay_per_token"})
  for name, now in game["edited"].items():
    cell, was = play.locator(f"[data-cell={name}]"), game["payoff"][name]
    for role in ("LLM", "user"):
      text = (
        f"{role} {now[role]} was {was[role]}" if now[role] != was[role] else f"{role} {now[role]}"
      )
      expect(cell).to_contain_text(text.replace("-", "\u2212"))
  expect(play.locator(".named")).to_have_count(1)
  expect(play.locator(".named")).to_contain_text("chosen")
  assert play.locator(".named").get_attribute("data-cell") == game["named"]
  expect(play.locator(".matrix th")).to_have_text(
    ["answer (DA)", "ask (CQ)", "answer + ask (AQ)", "definite (DQ)", "vague (VQ)"]
  )
  expect(play).to_contain_text(
    "read the question as vague (VQ) and chose: answer + ask (AQ), as the rule would"
  )
  expect(play.locator(".response")).to_have_text(page_server.RESPONSES["AQ"])
  expect(play.get_by_text(game["thinking"])).to_be_hidden()
  expect(chat.get_by_text("the outlined cell")).to_be_hidden()
  play.locator("summary").first.click()
  expect(play.get_by_text(game["thinking"])).to_be_visible()
  assert server[1].requests[-1]["pricing"] == "pay_per_token"


def test_the_slider_scales_a_policy_and_without_one_nothing_is_edited(server, chat):
  chat.select_option("#policy", "pay_per_character")
  chat.focus("#price")
  for _ in range(7):
    chat.keyboard.press("ArrowRight")
  expect(chat.locator("#cost")).to_have_text("LLM +0.00085, user \u22120.00425 points a character")
  chat.fill("#question", QUESTION)
  chat.keyboard.press("Enter")
  over(chat)
  sent = pricing.from_table("sent", server[1].requests[-1]["pricing"])
  wanted = pricing.at_price(pricing.PRESETS["pay_per_character"], 0.00425)
  assert (sent.price_per_character, sent.name) == (
    wanted.price_per_character,
    "pay per character at 0.00425",
  )
  play = ask(chat)
  over(chat)
  expect(chat.locator("#price")).to_be_disabled()
  expect(play.locator(".was")).to_have_count(0)
  assert "pricing" not in server[1].requests[-1]


@pytest.mark.parametrize("width", [320, 1600])
def test_a_question_is_replayed_under_several_prices(server, visit, width):
  page = visit(server[0], viewport={"width": width, "height": 900})
  ask(page)
  over(page)
  first = server[1].requests[-1]
  page.select_option("#policy", "pay_per_token")
  page.fill("#price", "0.04")
  page.click("#add")
  page.click("#again")
  over(page)
  expect(page.locator(".several .matrix")).to_have_count(5)
  # the dearer a token, the less is answered at once
  expect(page.locator(".several .play").last.locator(".response")).to_have_text(
    page_server.RESPONSES["CQ"]
  )
  replayed = server[1].requests[-5:]
  names = [each.get("pricing") for each in replayed]
  assert [*names[:4], names[4]["name"]] == [
    None, "subscription", "pay_per_token", "pay_per_character", "pay per token at 0.04",
  ]  # fmt: skip
  assert all(
    (each["messages"], each["seed"]) == (first["messages"], first["seed"]) for each in replayed
  )
  tops = page.eval_on_selector_all(
    ".several .matrix", "all => all.map(each => each.getBoundingClientRect().top)"
  )
  assert len(set(tops[:3])) == (1 if width == 1600 else 3)
  assert page.evaluate("document.documentElement.scrollWidth") == width
  # what goes on is the conversation that the client sees: responses alone, and the first of them
  ask(page, "At eight, please.")
  over(page)
  assert server[1].requests[-1]["messages"] == [
    {"role": "user", "content": QUESTION},
    {"role": "assistant", "content": page_server.RESPONSES["AQ"]},
    {"role": "user", "content": "At eight, please."},
  ]
  page.click("#new")
  expect(page.locator("article")).to_have_count(0)


def test_what_the_model_writes_is_text(server, chat):
  play = ask(chat, f"markup {page_server.MARKUP}")
  over(chat)
  for summary in play.locator("summary").all():
    summary.click()
  expect(chat.get_by_text(page_server.MARKUP)).to_have_count(
    5
  )  # question, response, both blocks, speech
  assert chat.locator("img").count() == 0
  assert "taken" not in chat.title()


@pytest.mark.parametrize(
  "word, told",
  [
    ("busy", "queue is full. Try again in 7 s."),
    ("leaving", "The server is shutting down."),
    ("broken", "The connection to the server broke off."),
    ("short", "Cut off: the answer's token budget ran out."),
    ("plain", "this chain cannot be read (missing_block)"),
  ],
)
def test_what_goes_wrong_is_told(chat, word, told):
  play = ask(chat, word)
  over(chat)
  expect(play).to_contain_text(told)
  if word == "busy":
    play.get_by_role("button", name="Try again").click()
    expect(play.locator(".matrix")).to_be_visible()
    assert chat.locator(".failed").count() == 0
  if word == "plain":
    expect(play.locator(".response")).to_have_text("I am no chain.")


def test_a_price_of_the_server_and_a_server_that_is_gone_are_told(visit):
  with page_server.running(default="subscription") as (address, _):
    page = visit(address)
    expect(ask(page)).to_contain_text("The server's own price: subscription.")
    over(page)
  play = ask(page)
  expect(play.get_by_role("alert")).to_contain_text(
    f"The server does not answer at {address[7:-1]}"
  )


def test_a_key_is_asked_for_and_kept_in_memory_only(visit):
  with page_server.running(key="s3cret") as (address, _):
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
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [
      0,
      0,
      "",
    ]
    assert "s3cret" not in page.content()


@pytest.mark.parametrize("key", ["Escape", "Stop"])
def test_an_answer_is_stopped(server, chat, key):
  before = server[1].cancelled
  play = ask(chat, "slow")
  expect(play.locator(".response")).not_to_be_empty()
  if key == "Escape":
    chat.keyboard.press("Escape")
  else:
    chat.get_by_role("button", name="Stop").click()
  expect(play).to_contain_text("Stopped.")
  over(chat)
  expect(chat.locator("#question")).to_be_focused()
  expect(play.locator(".response")).not_to_be_empty()
  ask(chat, "again")  # by now the server has seen that the other one has gone
  over(chat)
  assert server[1].cancelled == before + 1


def test_a_system_message_leads_the_conversation(server, chat):
  chat.get_by_text("System message", exact=True).click()
  chat.fill("#system", "Two people are meant if none is named.")
  ask(chat)
  over(chat)
  lead = {"role": "system", "content": "Two people are meant if none is named."}
  assert server[1].requests[-1]["messages"] == [lead, {"role": "user", "content": QUESTION}]


def test_by_keyboard(server, chat):
  expect(chat.locator("#question")).to_be_focused()
  chat.keyboard.type("one")
  chat.keyboard.press("Shift+Enter")
  chat.keyboard.type("two")
  chat.keyboard.press("Enter")
  over(chat)
  assert server[1].requests[-1]["messages"][-1]["content"] == "one\ntwo"
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
  first, last = page_server.RESPONSES["AQ"].split(". ")
  expect(chat.locator("#spoken p")).to_have_text(["The model is thinking.", f"{first}.", last])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_that_axe_finds_and_nothing_from_elsewhere(server, visit, scheme):
  page = visit(server[0], color_scheme=scheme, reduced_motion="reduce", bypass_csp=True)
  asked = []
  page.on("request", lambda request: asked.append(request.url))
  page.reload()
  play = ask(page, "slow")
  expect(play.locator(".waiting")).to_be_visible()
  animation = "getComputedStyle(document.querySelector('.waiting'), '::after').animationName"
  assert page.evaluate(animation) == "none"
  page.keyboard.press("Escape")
  ask(page, policy="pay_per_token")
  over(page)
  page.click("#again")
  over(page)
  ask(page, "leaving")
  over(page)
  for summary in page.locator("summary").all():
    summary.click()
  found = Axe().run(page).response["violations"]
  assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []
  assert {url[: len(server[0])] for url in asked if not url.startswith("data:")} == {server[0]}
