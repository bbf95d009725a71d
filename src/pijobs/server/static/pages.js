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
  // An answer that was under way when a box was ticked would untick it.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.requestConfig.verb === "get" && busy()) event.detail.shouldSwap = false;
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

  // What a step of a plot says: to the pointer, and to the arrow keys.
  let pointed = null;
  const tell = () => {
    const plot = pointed && document.getElementById(pointed.plot);
    const step = plot?.getElementsByClassName("step")[pointed.place];
    if (!step) return;
    const at = new Date(step.dataset.at);
    for (const other of plot.getElementsByClassName("here")) other.classList.remove("here");
    step.classList.add("here");
    plot.classList.add("shown");
    plot.querySelector(".readout").textContent = `${day(at)} ${two(at.getHours())}:${two(at.getMinutes())} · ${step.dataset.text}`;
  };
  const forget = (plot) => {
    if (!plot || pointed?.plot !== plot.id) return;
    pointed = null;
    plot.classList.remove("shown");
    for (const other of plot.getElementsByClassName("here")) other.classList.remove("here");
    plot.querySelector(".readout").textContent = plot.getAttribute("aria-label").replace(/^[^:]*: /, "");
  };
  const point = (plot, place) => { pointed = { plot: plot.id, place }; tell(); };
  document.addEventListener("pointerover", (event) => {
    const step = event.target.closest(".step");
    if (step) point(step.closest(".plotted"), [...step.parentNode.getElementsByClassName("step")].indexOf(step));
  });
  document.addEventListener("pointerout", (event) => {
    const plot = event.target.closest(".plotted");
    if (plot && !plot.contains(event.relatedTarget)) forget(plot);
  });
  document.addEventListener("focusout", (event) => { if (event.target.classList.contains("plotted")) forget(event.target); });
  document.addEventListener("keydown", (event) => {
    if (!event.target.classList.contains("plotted")) return;
    const last = event.target.getElementsByClassName("step").length - 1;
    const here = pointed?.plot === event.target.id ? pointed.place : last + 1;
    const to = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    point(event.target, Math.min(last, Math.max(0, to)));
  });

  const tickAll = () => document.getElementById("tick-all");
  const show = () => {
    local();
    tell();
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

  // Forms: rows for names and texts, changes that are not saved, and the steps of a probe as they come.
  const form = document.getElementById("definition");
  for (const button of document.getElementsByClassName("add")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const row = button.previousElementSibling.cloneNode(true);
      for (const input of row.children) input.value = "";
      button.before(row);
      row.firstElementChild.focus();
    });
  }
  let changed = false;
  form?.addEventListener("input", () => { changed = true; document.getElementById("unsaved").hidden = false; });
  form?.addEventListener("submit", () => { changed = false; });
  addEventListener("beforeunload", (event) => { if (changed) event.preventDefault(); });
  document.addEventListener("submit", async (event) => {
    const list = document.getElementById(event.target.dataset.steps);
    if (!list) return;
    event.preventDefault();
    const button = event.target.querySelector("button");
    button.disabled = true;
    const told = { method: "POST", body: new FormData(event.target), headers: { "HX-Request": "true" } };
    try {
      const answer = await fetch(event.target.action, told);
      if (!answer.ok) throw new Error(answer.status);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (let part = await reader.read(); !part.done; part = await reader.read()) list.innerHTML = text += part.value;
    } catch { event.target.submit(); }
    button.disabled = false;
  });
  show();
})();
