"use strict";
// Names and classes come from anyone's files: they become text nodes and attributes, never markup.
const { classes, colors, images } = JSON.parse(document.getElementById("data").textContent);
const BATCH = 60; // cards made at a time, as the end of the page comes near
const FIGURES = ["peak support", "CRF change", "agreement", "score margin"];
const byId = (id) => document.getElementById(id);
const [filters, gallery, detail] = ["filters", "gallery", "detail"].map(byId);
const chosen = new Set(); // classes
let view = []; // indices of the images that pass, in order
let open = null; // position in view of the image that the dialog shows
let off = new Set(); // its objects that are switched off

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const fixed = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const color = (index) => colors[index % colors.length];

// [class, score, quality, figures, path] of an object
function matches([label, score, quality]) {
  return (
    (chosen.size === 0 || chosen.has(label)) &&
    score >= filters.low.value - 1e-9 &&
    score <= +filters.high.value + 1e-9 &&
    (+filters.quality.value === 1 || (quality !== null && quality <= +filters.quality.value))
  );
}

const scores = (image) => image.o.map((object) => object[1]);
const largest = 2; // sorts behind every score and quality
const ORDERS = {
  source: null,
  worst: (image) => image.q ?? largest,
  best: (image) => -(image.q ?? -1),
  unsure: (image) => Math.min(...scores(image), largest),
  sure: (image) => -Math.max(...scores(image), -1),
  many: (image) => -image.o.length,
};

function refresh() {
  const all = chosen.size === 0 && +filters.low.value === 0 && +filters.high.value === 1 && +filters.quality.value === 1;
  const words = filters.name.value.toLowerCase();
  view = [];
  images.forEach((image, i) => {
    if ((all || image.o.some(matches)) && image.n.toLowerCase().includes(words)) view.push(i);
  });
  const key = ORDERS[filters.order.value];
  if (key) {
    const keys = new Map(view.map((i) => [i, key(images[i])]));
    view.sort((a, b) => keys.get(a) - keys.get(b) || a - b);
  }
  for (const range of filters.querySelectorAll("input[type=range]")) range.nextElementSibling.value = (+range.value).toFixed(2);
  byId("found").textContent = view.length.toLocaleString("en");
  document.body.classList.toggle("no-masks", !filters.overlays.checked);
  gallery.replaceChildren();
  fill();
}

// Cards up to a screen's height below what is seen
function fill() {
  const end = byId("more");
  while (gallery.children.length < view.length && end.getBoundingClientRect().top < 2 * innerHeight) addCards();
}

function addCards() {
  const first = gallery.children.length;
  gallery.append(...view.slice(first, first + BATCH).map((i) => card(images[i])));
}

function card(image) {
  const found = image.o.map(([label]) => classes[label]);
  const quality = image.q === null ? "" : `quality ${fixed(image.q)}, `;
  const text = element("span", { className: "caption" }, element("bdi", { textContent: image.n, title: image.n }));
  text.append(element("small", { textContent: `${quality}${found.join(", ") || "no objects"}` }));
  return element("button", { type: "button", className: "photo" }, picture(image, image.t, shownObjects(image)), text);
}

function shownObjects(image) {
  return image.o.map((object, i) => [object, i]).filter(([object]) => matches(object));
}

// A photo under outlines; both keep the proportions of the image
function picture(image, source, objects) {
  const frame = element("span", { className: "picture" });
  if (source) frame.append(element("img", { src: source, loading: "lazy", decoding: "async", alt: image.n }));
  if (objects.length === 0) return frame;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${image.v[1]} ${image.v[0]}`);
  svg.setAttribute("aria-hidden", "true");
  for (const [[, , , , data], i] of objects.toReversed()) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", data);
    path.setAttribute("fill", color(i));
    path.setAttribute("stroke", color(i));
    path.dataset.object = i;
    svg.append(path);
  }
  frame.append(svg);
  return frame;
}

function shaped(frame, image) {
  frame.style.aspectRatio = `${image.v[1]} / ${image.v[0]}`;
  return frame;
}

function show(position) {
  open = position;
  const image = images[view[position]];
  const every = image.o.map((object, i) => [object, i]);
  off = new Set(every.filter(([object]) => !matches(object)).map(([, i]) => i));
  const tags = image.g.length ? `, tags: ${image.g.map((label) => classes[label]).join(", ")}` : "";
  const module = image.m === null ? "" : `, module ${image.m}`;
  byId("name").textContent = image.n;
  byId("facts").textContent = `${image.z[1]} × ${image.z[0]}${module}${tags}, ${position + 1} of ${view.length}`;
  byId("large").replaceChildren(shaped(picture(image, image.p ?? image.t, every), image));
  byId("objects").replaceChildren(...every.map(([object, i]) => row(object, i)));
  const stages = image.s?.length ? image.s.map(([title, file]) => [title, file, []]) : [];
  if (stages.length) stages.push(["final", image.t, every]);
  byId("stages").replaceChildren(
    ...stages.map(([title, file, objects]) =>
      element("figure", {}, shaped(picture(image, file, objects), image), element("figcaption", { textContent: title })),
    ),
  );
  switchObjects();
  if (!detail.open) detail.showModal();
}

function row([label, score, quality, figures], i) {
  const box = element("input", { type: "checkbox" });
  box.onchange = () => toggle(i);
  const chip = element("i");
  chip.style.background = color(i);
  const name = element("bdi", { textContent: `${i + 1}. ${classes[label]}` });
  const line = element("label", {}, box, chip, name, element("span", { className: "number", textContent: fixed(score) }));
  const known = figures.map((value, k) => (value === null ? null : `${FIGURES[k]} ${fixed(value)}`)).filter(Boolean);
  const item = element("li", {}, line);
  if (quality !== null) {
    const told = `quality ${fixed(quality)}: ${known.join(", ")}`;
    item.append(element("small", { className: "number", textContent: told }));
  }
  item.onmouseenter = () => light(i, true);
  item.onmouseleave = () => light(i, false);
  return item;
}

const paths = (i) => detail.querySelectorAll(`path[data-object="${i}"]`);
const light = (i, lit) => paths(i).forEach((path) => path.classList.toggle("lit", lit));

function toggle(i) {
  if (!off.delete(i)) off.add(i);
  switchObjects();
}

function switchObjects() {
  [...byId("objects").children].forEach((item, i) => {
    item.querySelector("input").checked = !off.has(i);
    paths(i).forEach((path) => path.classList.toggle("off", off.has(i)));
  });
}

function move(step) {
  const target = open + step;
  if (target < 0 || target >= view.length) return;
  while (gallery.children.length <= target) addCards();
  show(target);
}

function focusCard(target) {
  target = Math.max(0, Math.min(view.length - 1, target));
  while (gallery.children.length <= target && gallery.children.length < view.length) addCards();
  gallery.children[target]?.focus();
}

function columns() {
  const cards = [...gallery.children];
  const next = cards.findIndex((one) => one.offsetTop > cards[0].offsetTop);
  return next < 0 ? cards.length : next;
}

const inDetail = {
  ArrowLeft: () => move(-1),
  ArrowRight: () => move(1),
  0: () => {
    off = off.size ? new Set() : new Set(images[view[open]].o.keys());
    switchObjects();
  },
};
const inGallery = {
  ArrowLeft: (at) => focusCard(at - 1),
  ArrowRight: (at) => focusCard(at + 1),
  ArrowUp: (at) => focusCard(at - columns()),
  ArrowDown: (at) => focusCard(at + columns()),
  Home: () => focusCard(0),
  "/": () => filters.name.focus(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("select, input:not([type=checkbox])")) return;
  let action;
  if (event.key === "m") action = () => filters.overlays.click();
  else if (detail.open) {
    const digit = Number(event.key);
    const switched = digit >= 1 && digit <= images[view[open]].o.length;
    action = inDetail[event.key] ?? (switched ? () => toggle(digit - 1) : undefined);
  } else if (view.length && inGallery[event.key]) {
    const at = [...gallery.children].indexOf(document.activeElement);
    action = () => inGallery[event.key](at);
  }
  if (!action) return;
  event.preventDefault();
  action();
});

gallery.addEventListener("click", (event) => {
  const clicked = event.target.closest(".photo");
  if (clicked) show([...gallery.children].indexOf(clicked));
});
byId("classes").addEventListener("click", (event) => {
  const button = event.target.closest(".class");
  if (!button) return;
  const label = Number(button.dataset.class);
  if (!chosen.delete(label)) chosen.add(label);
  button.setAttribute("aria-pressed", chosen.has(label));
  refresh();
});
filters.addEventListener("input", refresh);
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("reset", () => {
  chosen.clear();
  for (const button of document.querySelectorAll(".class")) button.setAttribute("aria-pressed", false);
  setTimeout(refresh); // the fields have their first values after this event
});
byId("previous").onclick = () => move(-1);
byId("next").onclick = () => move(1);
byId("close").onclick = () => detail.close();
detail.addEventListener("click", (event) => event.target === detail && detail.close());
detail.addEventListener("close", () => gallery.children[open]?.focus());
addEventListener("scroll", fill, { passive: true });
addEventListener("resize", fill);
refresh();
