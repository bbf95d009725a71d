"use strict";
// Pages renew their live part by htmx (hx-trigger="every 1s"); here is when they do not, and what needs a script.
(() => {
  const live = () => document.getElementById("live");
  const stale = (is) => { document.getElementById("stale").hidden = !is; };

  // Nobody looks, or somebody is about to act on what is there.
  const busy = () => document.hidden || Boolean(live()?.querySelector("input:checked"));

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.requestConfig.verb === "get" && busy()) event.preventDefault();
  });
  document.addEventListener("htmx:afterRequest", (event) => stale(!event.detail.successful));

  // Times in the zone of the reader; UTC stays on hover.
  const two = (number) => String(number).padStart(2, "0");
  const day = (at) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const zone = new Intl.DateTimeFormat([], { timeZoneName: "short" }).formatToParts()
    .find((part) => part.type === "timeZoneName").value;
  const local = () => {
    for (const time of document.getElementsByTagName("time")) {
      const at = new Date(time.dateTime);
      if (isNaN(at)) continue;
      const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
      time.textContent = day(at) === day(new Date()) ? clock : `${day(at)} ${clock}`;
    }
    for (const hint of document.getElementsByClassName("zone")) hint.textContent = zone;
  };

  const tickAll = () => document.getElementById("tick-all");
  const show = () => {
    local();
    if (tickAll()) tickAll().hidden = false;
    if (navigator.clipboard) for (const button of document.getElementsByClassName("copy")) button.hidden = false;
  };
  document.addEventListener("htmx:afterSwap", show);
  document.addEventListener("change", (event) => {
    if (event.target !== tickAll()) return;
    for (const box of document.querySelectorAll("input[name=id]")) box.checked = event.target.checked;
  });
  document.addEventListener("click", async (event) => {
    const button = event.target.closest(".copy");
    if (!button) return;
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = button.dataset.done;
  });
  show();
})();
