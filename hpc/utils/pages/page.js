"use strict";
// Everything here is an addition: without it, all rows, figures and frames are visible.

const root = document.documentElement;
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function make(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

// The address holds filters and order, so that a view can be shared. An address without = is that of a section.
let view = viewOf(location.hash);

function viewOf(hash) {
  return new URLSearchParams(hash.includes("=") ? hash.slice(1) : "");
}

function keep(name, value) {
  if (value) view.set(name, value);
  else view.delete(name);
  const text = view.toString();
  try {
    history.replaceState(null, "", location.href.split("#")[0] + (text ? `#${text}` : ""));
  } catch {
    // Some viewers of local files allow no change of the address.
  }
}

// Tables

function valueOf(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  return text === "" || Number.isNaN(Number(text)) ? text : Number(text);
}

function compare(a, b) {
  if (a === b) return 0;
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number") return -1;
  if (typeof b === "number") return 1;
  return a.localeCompare(b, undefined, {numeric: true});
}

class DataTable {
  constructor(table) {
    this.table = table;
    this.key = table.dataset.key;
    this.body = table.tBodies[0];
    this.rows = [...this.body.rows];
    this.heads = [...table.tHead.rows[0].cells];
    this.count = document.querySelector(`[data-of="${CSS.escape(table.id)}"]`);
    this.controls = all("form.filters").filter(form => form.dataset.for === this.key)
      .flatMap(form => [...form.elements]).filter(control => control.name);
    this.heads.forEach((head, column) => {
      const button = make("button", {type: "button", title: "sort"}, ...head.childNodes);
      button.addEventListener("click", () => this.sortBy(column));
      head.append(button);
    });
    this.draw();
  }

  get order() {
    const [column, down] = [view.get(`${this.key}sort`), view.get(`${this.key}down`) === "1"];
    return column === null && !down ? null : {column: Number(column ?? 0), down};
  }

  sortBy(column) {
    const down = this.order?.column === column && !this.order.down;
    keep(`${this.key}sort`, String(column));
    keep(`${this.key}down`, down ? "1" : "");
    tables.filter(other => other.key === this.key).forEach(other => other.draw());
  }

  textOf(row) {
    return [...row.cells].filter(cell => cell.className === "label").map(cell => cell.textContent).join(" ").toLowerCase();
  }

  matches(row) {
    return this.controls.every(control => {
      if (control.type === "search") {
        const words = control.value.toLowerCase();
        return !words || this.textOf(row).includes(words);
      }
      if (control.type === "checkbox") return !control.checked || row.getAttribute(`data-is-${control.name}`) === "1";
      if ("columns" in control.dataset) return true;
      return !control.value || row.getAttribute(`data-is-${control.name}`) === control.value;
    });
  }

  sorted() {
    if (!this.order) return [...this.rows];
    const {column, down} = this.order;
    const values = new Map(this.rows.map(row => [row, valueOf(row.cells[column] ?? row.cells[0])]));
    return [...this.rows].sort((a, b) => {
      const [x, y] = [values.get(a), values.get(b)];
      if ((x === "") !== (y === "")) return x === "" ? 1 : -1; // without a value last in both orders
      return compare(x, y) * (down ? -1 : 1);
    });
  }

  draw() {
    const shown = this.sorted().filter(row => this.matches(row));
    this.body.replaceChildren(...shown);
    this.heads.forEach((head, column) => {
      if (this.order?.column !== column) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", this.order.down ? "descending" : "ascending");
    });
    this.showColumns(this.controls.filter(control => "columns" in control.dataset && control.value));
    if (!this.count) return;
    this.count.hidden = false;
    const text = shown.length === this.rows.length ? `${shown.length} rows` : `${shown.length} of ${this.rows.length} rows`;
    if (this.count.textContent !== text) this.count.textContent = text;
  }

  showColumns(chosen) {
    const hides = cell => chosen.some(one => (cell.getAttribute(`data-in-${one.name}`) ?? one.value) !== one.value);
    for (const row of [this.table.tHead.rows[0], ...this.rows]) {
      for (const cell of row.cells) cell.hidden = hides(cell);
    }
  }

  drawAll() {
    this.body.replaceChildren(...this.sorted());
    this.showColumns([]);
  }
}

function readControls() {
  for (const form of all("form.filters")) {
    for (const control of [...form.elements].filter(one => one.name)) {
      const value = view.get(form.dataset.for + control.name) ?? "";
      if (control.type === "checkbox") control.checked = value === "1";
      else control.value = value;
      if (control.selectedIndex === -1) control.value = "";
    }
  }
}

function startForm(form) {
  const drawn = () => tables.filter(table => table.key === form.dataset.for).forEach(table => table.draw());
  form.hidden = false;
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("input", event => {
    const control = event.target;
    keep(form.dataset.for + control.name, control.type === "checkbox" ? (control.checked ? "1" : "") : control.value);
    drawn();
  });
  form.addEventListener("reset", () => setTimeout(() => {
    for (const control of [...form.elements].filter(one => one.name)) keep(form.dataset.for + control.name, "");
    drawn();
  }));
}

readControls();
const tables = all("table.data").map(table => new DataTable(table));
all("form.filters").forEach(startForm);
addEventListener("hashchange", () => {
  if (!location.hash.includes("=")) return;
  view = viewOf(location.hash);
  readControls();
  tables.forEach(table => table.draw());
});

// Figures

function startFigures() {
  const figures = all("figure.zoom");
  if (!figures.length || !window.HTMLDialogElement) return;
  const picture = make("img"), caption = make("p", {id: "lightbox-text"});
  let [now, opener] = [0, null];
  const previous = make("button", {type: "button"}, "← previous"), next = make("button", {type: "button"}, "next →");
  const close = make("button", {type: "button"}, "close");
  const box = make("dialog", {id: "lightbox"}, make("div", {className: "bar-of-buttons"}, previous, next, close), picture, caption);
  box.setAttribute("aria-labelledby", "lightbox-text");
  document.body.append(box);

  const visible = () => figures.filter(figure => figure.closest("[hidden]") === null);
  const show = number => {
    const shown = visible();
    now = (number + shown.length) % shown.length;
    const source = shown[now].querySelector("img");
    [picture.src, picture.alt, picture.className] = [source.src, source.alt, source.className];
    caption.textContent = shown[now].querySelector("figcaption").textContent;
  };
  previous.addEventListener("click", () => show(now - 1));
  next.addEventListener("click", () => show(now + 1));
  close.addEventListener("click", () => box.close());
  box.addEventListener("click", event => { if (event.target === box) box.close(); });
  box.addEventListener("close", () => opener?.focus());
  box.addEventListener("keydown", event => {
    if (event.key === "ArrowLeft") show(now - 1);
    if (event.key === "ArrowRight") show(now + 1);
  });
  for (const figure of figures) {
    const source = figure.querySelector("img");
    const button = make("button", {type: "button", className: "enlarge"});
    button.setAttribute("aria-label", `Enlarge: ${source.alt}`);
    source.replaceWith(button);
    button.append(source);
    button.addEventListener("click", () => {
      opener = button;
      show(visible().indexOf(figure));
      box.showModal();
    });
  }
}

// Galleries: one frame at a time, chosen by a slider

function startGallery(gallery) {
  const frames = all("[data-frame]", gallery), names = JSON.parse(gallery.dataset.names);
  const slide = gallery.querySelector(".slide"), range = gallery.querySelector("input[type=range]");
  if (!range) return;
  const output = gallery.querySelector("output");
  const show = number => {
    for (const frame of frames) frame.hidden = Number(frame.dataset.frame) !== number;
    output.textContent = names[number];
    range.setAttribute("aria-valuetext", names[number]);
  };
  slide.hidden = false;
  range.value = 0;
  range.addEventListener("input", () => show(Number(range.value)));
  show(0);
}

// Commands

function startCopy(block) {
  const button = make("button", {type: "button", className: "copy"}, "copy");
  const said = make("span", {className: "count"});
  said.setAttribute("role", "status");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(block.textContent);
      said.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(block);
      said.textContent = "selected: copy it with your keyboard";
    }
  });
  block.after(make("p", {}, button, " ", said));
}

// Light or dark

function startTheme() {
  const button = make("button", {type: "button", className: "theme"});
  const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const name = () => { button.textContent = isDark() ? "light page" : "dark page"; };
  try {
    const kept = localStorage.getItem("polarcast-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch {
    // Storage may be switched off.
  }
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("polarcast-theme", root.dataset.theme);
    } catch {
      // The choice then lasts until the page is left.
    }
    name();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();
  document.querySelector(".tools").append(button);
}

// Paper shows everything

function startPrint() {
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = all("details:not([open])");
    folded.forEach(one => { one.open = true; });
    tables.forEach(table => table.drawAll());
  });
  addEventListener("afterprint", () => {
    folded.forEach(one => { one.open = false; });
    tables.forEach(table => table.draw());
  });
}

startFigures();
all("[data-names]").forEach(startGallery);
all("pre.commands").forEach(startCopy);
startTheme();
startPrint();
root.classList.add("js");
