"use strict";
// Shows one pass of a generation at a time. Without this script all passes are listed.
for (const box of document.querySelectorAll("[data-steps]")) {
  const passes = Array.from(box.querySelectorAll(".pass"));
  const status = box.querySelector(".status");
  const buttons = Array.from(box.querySelectorAll("button"));
  let at = 0;
  const show = (place) => {
    at = Math.min(Math.max(place, 0), passes.length - 1);
    passes.forEach((pass, index) => pass.classList.toggle("off", index !== at));
    status.textContent = passes[at].querySelector(".what").textContent;
    for (const button of buttons) {
      const first = button.dataset.go === "first" || button.dataset.go === "back";
      button.setAttribute("aria-disabled", String(first ? at === 0 : at === passes.length - 1));
    }
  };
  const moves = {
    first: () => show(0),
    back: () => show(at - 1),
    on: () => show(at + 1),
    last: () => show(passes.length - 1),
  };
  const keys = { Home: "first", ArrowLeft: "back", ArrowRight: "on", End: "last" };
  box.addEventListener("keydown", (event) => {
    if (keys[event.key] === undefined || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    moves[keys[event.key]]();
  });
  for (const button of buttons) button.addEventListener("click", () => moves[button.dataset.go]());
  box.querySelector(".controls").hidden = false;
  box.classList.add("one");
  show(0);
}
// what is folded is printed too
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));
