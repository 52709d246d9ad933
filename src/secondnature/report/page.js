"use strict";
for (const form of document.querySelectorAll("form[data-list]")) {
  const items = [...document.getElementById(form.dataset.list).children];
  const words = items.map((item) => item.textContent.toLowerCase());
  const selects = [...form.querySelectorAll("select")], search = form.querySelector("input"), said = form.querySelector("[role=status]");
  const [all, more] = form.querySelectorAll("button");
  let most = 25;
  const apply = () => {
    const sought = search.value.trim().toLowerCase();
    let fitting = 0;
    items.forEach((item, i) => {
      const fits = words[i].includes(sought) && selects.every((s) => !s.value || (" " + item.dataset[s.dataset.on] + " ").includes(" " + s.value + " "));
      fitting += fits;
      item.hidden = !fits || fitting > most;
    });
    more.hidden = fitting <= most;
    said.textContent = Math.min(fitting, most) + " shown" + (fitting > most ? ", " + fitting + " match" : "");
  };
  all.addEventListener("click", () => {
    const open = all.textContent === "Open all";
    for (const item of items) if (!item.hidden) item.firstElementChild.open = open;
    all.textContent = open ? "Close all" : "Open all";
  });
  more.addEventListener("click", () => { most = Infinity; apply(); all.focus(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", apply);
  form.hidden = false;
  apply();
}
