"use strict";
// Pages renew their live part by htmx (hx-trigger="every 1s"); here is when they do not, and what needs a script.
(() => {
  const live = () => document.getElementById("live");
  const stale = (is) => { document.getElementById("stale").hidden = !is; };

  // Nobody looks, or somebody is about to act on what is there.
  const busy = () => document.hidden || Boolean(live()?.querySelector("input:checked"));

  document.addEventListener("htmx:beforeRequest", (event) => { if (busy()) event.preventDefault(); });
  document.addEventListener("htmx:afterRequest", (event) => stale(!event.detail.successful));

  const tickAll = () => document.getElementById("tick-all");
  const show = () => { if (tickAll()) tickAll().hidden = false; };
  document.addEventListener("htmx:afterSwap", show);
  document.addEventListener("change", (event) => {
    if (event.target !== tickAll()) return;
    for (const box of document.querySelectorAll("input[name=id]")) box.checked = event.target.checked;
  });
  show();
})();
