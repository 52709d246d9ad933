"use strict";
// Text from the server is set as text, never as markup. A hidden page asks for nothing.
const live = document.querySelector("[data-status]");
if (live) {
  const said = document.getElementById("live"), outcomes = document.getElementById("outcomes"), seen = live.dataset.version;
  const fresh = document.getElementById("fresh");
  let waiting = null, failed = 0;
  const say = (node, text) => { if (node && node.textContent !== text) node.textContent = text; };
  const cell = (tag, text, attributes) => {
    const node = document.createElement(tag);
    node.textContent = text;
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const show = (status) => {
    if (status.problem) return say(said, "Cannot read the run: " + status.problem);
    for (const node of document.querySelectorAll("[data-live]")) say(node, status.figures[node.dataset.live]);
    for (const node of document.querySelectorAll("[data-done]")) node.value = status.prompts ? 1 - status.outcomes.filter(([name]) => name === node.dataset.done).reduce((sum, [, n]) => sum + n, 0) / status.prompts : 0;
    if (outcomes) {
      const now = JSON.stringify(status.outcomes);
      if (outcomes.dataset.shown !== now) {
        outcomes.dataset.shown = now;
        outcomes.replaceChildren(...status.outcomes.map(([name, n]) => {
          const row = document.createElement("tr"), head = cell("th", "", { scope: "row" });
          head.append(cell("a", name, { href: "train?state=" + encodeURIComponent(name) }));
          row.append(head, cell("td", n.toLocaleString("en"), { class: "num" }), cell("td", (100 * n / status.prompts).toFixed(1) + "%", { class: "num" }));
          return row;
        }));
      }
    }
    let text = "";
    if (status.changed < 60) text = "Something was written " + Math.round(status.changed) + " s ago.";
    else text = "Up to date; nothing is being written.";
    say(said, text);
    if (fresh && status.version !== seen) fresh.hidden = false;
  };
  const ask = async () => {
    waiting = null;
    let calm = false;
    try {
      const answer = await fetch(live.dataset.status, { cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      const status = await answer.json();
      failed = 0;
      calm = status.changed > 60;
      show(status);
    } catch {
      failed += 1;
      say(said, "The view does not answer: it may have been stopped.");
    }
    if (!document.hidden) waiting = setTimeout(ask, failed ? Math.min(30000, 2000 * failed) : calm ? 5000 : 2000);
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { clearTimeout(waiting); waiting = null; } else if (waiting === null) ask();
  });
  waiting = setTimeout(ask, 500);
}
for (const form of document.querySelectorAll("form[data-auto]"))
  for (const select of form.querySelectorAll("select")) select.addEventListener("change", () => form.requestSubmit());
