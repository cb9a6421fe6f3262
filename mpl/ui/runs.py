"""The tab of a visitor's finished runs."""

from __future__ import annotations

from typing import Any

import gradio as gr

from mpl.ui.cards import act, cards
from mpl.ui.create import AT_ONCE, Parts, updates
from mpl.ui.desk import Desk
from mpl.ui.form import FIELDS
from mpl.ui.generate import EMPTY

# A press on Delete asks; the press after it does, and then the same button of the next card is focused. Times are told
# by the browser's clock. All cards are new whenever one comes or goes: a video that was played is played on.
PRESSED = """let gone, place, mine, listed, watched, changed = -Infinity;
const said = Object.assign(document.createElement("p"), {className: "unseen", role: "status"}); // read aloud
element.after(said);
element.addEventListener("timeupdate", ({target}) => {
  watched = {video: target, address: target.src, time: target.currentTime, plays: !target.paused};
}, true);
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-run]");
  if (!button) return;
  // Just now other cards have come: this one may not be the one that was aimed at.
  if (button.dataset.act === "delete" && performance.now() - changed < 700) return;
  if (button.dataset.act === "delete" && !button.dataset.sure) {
    button.dataset.sure = "yes";
    button.textContent = "Really delete?";
    said.textContent = "Press again to delete the video and its recipe.";
    setTimeout(() => {
      delete button.dataset.sure;
      button.textContent = "Delete";
      said.textContent = "";
    }, 4000);
    return;
  }
  if (button.dataset.act === "delete") {
    mine = true;
    gone = button.closest("article");
    place = [...element.querySelectorAll("article")].indexOf(gone);
  }
  trigger("click", {...button.dataset});
});
const local = new Intl.DateTimeFormat("en-GB", {dateStyle: "long", timeStyle: "short"});
const settle = () => {
  const runs = [...element.querySelectorAll("[data-act=delete]")].map((button) => button.dataset.run).join();
  if (runs !== listed) {
    if (listed && !mine) changed = performance.now();
    mine = false;
    listed = runs;
  }
  for (const time of element.querySelectorAll("time:not([data-local])")) {
    time.dataset.local = "yes";
    time.title = time.textContent;
    time.textContent = local.format(new Date(time.dateTime));
  }
  if (watched && !watched.video.isConnected) {
    const {address, time, plays} = watched;
    const again = [...element.querySelectorAll("video")].find((video) => video.src === address);
    watched = null;
    if (again) again.currentTime = time;
    if (again && plays) again.play();
  }
  if (!gone || gone.isConnected) return;
  gone = null;
  const left = [...element.querySelectorAll("[data-act=delete]")];
  (left[place] ?? left.at(-1) ?? document.querySelector("#tabs [role=tab][aria-selected=true]"))?.focus();
};
new MutationObserver(settle).observe(element, {childList: true, subtree: true});
settle();"""


def build(desk: Desk, tabs: gr.Tabs, tab: gr.Tab, parts: Parts) -> None:
    """The tab, connected; `parts` are those of the form that a run can go back into."""
    visitor = parts["visitor"]
    runs = gr.HTML("", js_on_load=PRESSED, elem_id="runs")
    changed = [runs, tabs, *(parts[name] for name in (*FIELDS, "source", "start_at", "entry", *EMPTY))]

    def show(who: str | None) -> str:
        return cards(desk, who)

    def press(who: str | None, event: gr.EventData) -> dict[Any, Any]:
        changes = act(desk, who, event._data)
        found: dict[Any, Any] = {runs: changes.pop("runs")} if "runs" in changes else {}
        if "tab" in changes:
            found[tabs] = gr.Tabs(selected=changes.pop("tab"))
        if changes.pop("entry", False):
            found[parts["entry"]] = gr.Accordion(open=True)
        return found | updates(parts, changes)

    tab.select(show, visitor, runs, **AT_ONCE)
    parts["followed"].then(show, visitor, runs, **AT_ONCE)  # whoever waits for a run here
    runs.click(press, visitor, changed, trigger_mode="multiple", **AT_ONCE)
