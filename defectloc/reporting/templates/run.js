"use strict";
// Nothing is computed here: every number and every verdict is looked up by the threshold's place.
(() => {
  const byId = (id) => document.getElementById(id);
  const points = JSON.parse(byId("points").textContent);
  const cards = [...document.querySelectorAll("#cards .card")];
  const slider = byId("threshold"), large = byId("large");
  const outcomes = [["passed", "false alarm"], ["missed", "caught"]];
  let visible = cards, current = 0;

  function showCard(card, at) {
    const predicted = at < Number(card.dataset.limits);
    const outcome = outcomes[card.dataset.label][Number(predicted)];
    const verdict = predicted ? "defective" : "good";
    card.classList.toggle("predicted", predicted);
    card.dataset.outcome = outcome.replace(" ", "-");
    card.querySelector(".badge").textContent = outcome;
    card.querySelector(".described").textContent = at === points.own ? card.dataset.described
      : `${verdict}, p = ${card.dataset.probability} (threshold ${points.limits[at].text.threshold})`;
    const boxes = card.querySelector(".boxes");
    boxes.textContent = predicted ? boxes.dataset.boxes : points.no_boxes;
  }

  function showThreshold() {
    const at = Number(slider.value), point = points.limits[at];
    for (const place of document.querySelectorAll("[data-shows]")) place.textContent = point.text[place.dataset.shows];
    for (const marker of document.querySelectorAll("[data-marker]")) {
      const place = point.markers[marker.dataset.marker];
      marker.toggleAttribute("hidden", !place);
      if (place) { marker.setAttribute("cx", place[0]); marker.setAttribute("cy", place[1]); }
    }
    document.documentElement.style.setProperty("--t", point.percent);
    slider.setAttribute("aria-valuetext", `${point.text.threshold} ${point.text.own}`);
    byId("reset").disabled = at === points.own;
    for (const card of cards) showCard(card, at);
    filter();
  }

  function filter() {
    const outcome = document.querySelector("input[name=outcome]:checked").value;
    const type = byId("type").value, name = byId("name").value.normalize().toLowerCase();
    visible = cards.filter((card) => (!outcome || card.dataset.outcome === outcome)
      && (!type || card.dataset.type === type)
      && card.dataset.name.normalize().toLowerCase().includes(name));
    const chosen = new Set(visible);
    for (const card of cards) card.hidden = !chosen.has(card);
    byId("shown").textContent = visible.length;
    byId("none").hidden = visible.length > 0;
  }

  function enlarge(number) {
    current = Math.max(0, Math.min(number, visible.length - 1));
    const copy = visible[current].cloneNode(true);
    const picture = copy.querySelector(".enlarge"), plain = document.createElement("div");
    plain.className = "enlarge";
    plain.append(...picture.childNodes);
    picture.replaceWith(plain);
    byId("enlarged").replaceChildren(copy);
    byId("place").textContent = `${current + 1} of ${visible.length}`;
    byId("previous").disabled = current === 0;
    byId("next").disabled = current === visible.length - 1;
    if (!large.open) large.showModal();
  }

  const keys = { ArrowLeft: () => current - 1, ArrowRight: () => current + 1, Home: () => 0, End: () => visible.length - 1 };
  // On the document, since a button that is disabled while it has the focus gets no more keys.
  document.addEventListener("keydown", (event) => {
    if (!large.open || !(event.key in keys)) return;
    event.preventDefault();
    enlarge(keys[event.key]());
  });
  large.addEventListener("close", () => visible[current]?.querySelector("button").focus());
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
  byId("previous").addEventListener("click", () => enlarge(current - 1));
  byId("next").addEventListener("click", () => enlarge(current + 1));
  byId("close").addEventListener("click", () => large.close());
  byId("cards").addEventListener("click", (event) => {
    const card = event.target.closest(".enlarge")?.closest(".card");
    if (card) enlarge(visible.indexOf(card));
  });

  slider.addEventListener("input", showThreshold);
  byId("reset").addEventListener("click", () => { slider.value = points.own; showThreshold(); slider.focus(); });
  for (const radio of document.querySelectorAll("input[name=outcome]")) radio.addEventListener("change", filter);
  byId("type").addEventListener("change", filter);
  byId("name").addEventListener("input", filter);
  byId("opacity").addEventListener("input", (event) =>
    document.documentElement.style.setProperty("--heat", event.target.value / 100));
  for (const [id, name] of [["boxes", "no-boxes"], ["truth", "no-truth"]])
    byId(id)?.addEventListener("change", (event) => document.body.classList.toggle(name, !event.target.checked));

  // A reload restores the forms of a page, but not what they had changed.
  for (const form of document.querySelectorAll("#type, #name")) form.value = "";
  slider.value = points.own;
  showThreshold();
})();
