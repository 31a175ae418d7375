//! The fixed parts of the SVG file.

/// Up to the first text. `HEIGHT` stands for the height.
pub(super) const HEAD: &str = r##"<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1200 HEIGHT" width="1200" height="HEIGHT" role="img" aria-label="Flame graph">
<style>
svg { --paper: #ffffff; --ink: #1a1a1a; --dim: #5c5c5c; background: var(--paper); max-width: 100%; height: auto; }
@media (prefers-color-scheme: dark) { svg { --paper: #16181d; --ink: #ececec; --dim: #a8adb5; } }
text { font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1a1a1a; }
text.title { font-size: 16px; font-weight: bold; fill: var(--ink); }
text.note { fill: var(--dim); }
text.button { fill: var(--dim); cursor: pointer; text-decoration: underline; }
#frames text { pointer-events: none; }
#frames rect { cursor: pointer; }
#frames rect:hover { stroke: var(--ink); stroke-width: 1; }
#frames g.outer rect { opacity: .45; }
#frames g.match rect { fill: #c678f0; }
</style>
<rect width="100%" height="100%" fill="var(--paper)"/>
"##;

/// Zooms into a box that is clicked, shows what the pointer is on, and marks what was searched for.
pub(super) const SCRIPT: &str = r##"<script><![CDATA[
"use strict";
const LEFT = 10, WIDTH = 1180, CHARACTER = 7.25;
const boxes = Array.from(document.querySelectorAll("#frames > g"), g => {
  const rect = g.querySelector("rect"), text = g.querySelector("text");
  return { g, rect, text, name: text.dataset.name, x: +rect.getAttribute("x"), y: +rect.getAttribute("y"),
    width: +rect.getAttribute("width"), title: g.querySelector("title").textContent };
});
const details = document.querySelector(".details");
function place(box, x, width) {
  box.rect.setAttribute("x", x);
  box.rect.setAttribute("width", width);
  box.text.setAttribute("x", x + 3);
  const room = Math.floor((width - 6) / CHARACTER);
  box.text.textContent = box.name.length <= room ? box.name : room < 3 ? "" : box.name.slice(0, room - 1) + "\u2026";
}
function zoom(to) {
  const slack = 0.02;
  for (const box of boxes) {
    const isInside = box.x >= to.x - slack && box.x + box.width <= to.x + to.width + slack;
    const isAround = box.x <= to.x + slack && box.x + box.width >= to.x + to.width - slack && box.y > to.y;
    box.g.classList.toggle("outer", isAround);
    box.g.style.display = isInside && box.y <= to.y || isAround ? "" : "none";
    if (isAround) place(box, LEFT, WIDTH);
    else if (isInside) place(box, LEFT + (box.x - to.x) * WIDTH / to.width, box.width * WIDTH / to.width);
  }
}
for (const box of boxes) {
  box.g.addEventListener("click", () => zoom(box));
  box.g.addEventListener("mouseenter", () => { details.textContent = box.title; });
  box.g.addEventListener("mouseleave", () => { details.textContent = ""; });
}
function search(wanted) {
  let count = 0;
  for (const box of boxes) {
    const isMatch = wanted && box.name.toLowerCase().includes(wanted.toLowerCase());
    box.g.classList.toggle("match", Boolean(isMatch));
    count += isMatch ? 1 : 0;
  }
  details.textContent = wanted ? count + " boxes have \u201c" + wanted + "\u201d in their name" : "";
}
document.getElementById("reset").addEventListener("click", () => { if (boxes.length) zoom(boxes[0]); });
document.getElementById("search").addEventListener("click", () => search(prompt("Part of a function or file:") || ""));
]]></script>
"##;

/// The end.
pub(super) const FOOT: &str = "</svg>\n";
