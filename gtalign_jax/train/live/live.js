"use strict";
// Asks how the run stands, and puts a new report in the place of the old one where there is one.
// What the reader has opened, scrolled to or focused stays as it is.

const EVERY = 2000; // ms between two questions
const bar = document.getElementById("live");
const main = document.querySelector("main");
let shown = "";

/** Names of elements that outlive a report: section, kind, first words, and which of several. */
function named(selector) {
  const seen = new Map(), found = new Map();
  for (const each of main.querySelectorAll(selector)) {
    const section = each.closest("section")?.querySelector("h2")?.textContent ?? "";
    const words = (each.matches("details") ? each.querySelector("summary") : each).textContent;
    const key = [section, each.tagName, words.trim().slice(0, 60)].join("|");
    const count = seen.get(key) ?? 0;
    seen.set(key, count + 1);
    found.set(`${key}|${count}`, each);
  }
  return found;
}

const MARKS = "h1, h2, h3, figcaption, summary";

/** All marks as [name, distance from the top], the one nearest to the top of what is seen first. */
function anchors() {
  const top = bar.getBoundingClientRect().bottom;
  return [...named(MARKS)]
    .map(([name, each]) => [name, each.getBoundingClientRect().top])
    .sort((a, b) => Math.abs(a[1] - top) - Math.abs(b[1] - top));
}

function replace(text) {
  const next = new DOMParser().parseFromString(text, "text/html");
  const open = new Map([...named("details")].map(([name, each]) => [name, each.open]));
  const inner = new Map(
    [...named(".wide, .text")].map(([name, each]) => [name, [each.scrollLeft, each.scrollTop]]));
  const focused = [...named("summary")].find(([, each]) => each === document.activeElement)?.[0];
  const marks = scrollY > 0 ? anchors() : [];
  document.getElementById("report-style").textContent = next.querySelector("style").textContent;
  document.title = next.title;
  main.replaceChildren(...next.body.childNodes);
  for (const [name, each] of named("details")) if (open.has(name)) each.open = open.get(name);
  for (const [name, each] of named(".wide, .text"))
    if (inner.has(name)) [each.scrollLeft, each.scrollTop] = inner.get(name);
  if (focused) named("summary").get(focused)?.focus({ preventScroll: true });
  const now = named(MARKS);
  const mark = marks.find(([name]) => now.has(name)); // a sample may have gone, its heading stays
  if (mark) scrollBy(0, now.get(mark[0]).getBoundingClientRect().top - mark[1]);
}

/** Whether the reader has marked words of the report, which a new one would take away. */
function isMarking() {
  const selection = getSelection();
  return !selection.isCollapsed && main.contains(selection.anchorNode);
}

function tell(kind, words) {
  bar.className = kind;
  if (bar.textContent !== words) bar.textContent = words;
}

async function look() {
  try {
    const state = await (await fetch("state")).json();
    tell(state.kind, `${state.name}: ${state.words}`);
    if (state.version !== shown && !isMarking()) {
      const answer = await fetch("report");
      const text = await answer.text();
      if (answer.ok) {
        replace(text);
        shown = answer.headers.get("X-Version");
      } else tell("gone", `No report could be made: ${text}`);
    }
  } catch {
    tell("gone", "gtalign show has ended; what is here is the last that it said.");
  }
  setTimeout(look, EVERY);
}

look();
