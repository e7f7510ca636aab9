// Elements by functions. All text goes through textContent, so that what a peer chose is never markup.

/** An element with properties, attributes (with a dash or `role`), listeners (`onclick`) and children. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value == null || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-")) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Sets the text if it is another one, so that an update that changes nothing costs no layout. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setTitle(element, title) {
  if (element.title !== title) element.title = title;
}

/** Puts `wanted` into `parent` in this order; elements that stay are neither moved nor made again. */
export function arrange(parent, wanted) {
  const keep = new Set(wanted);
  for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const element of wanted) {
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
  }
}

/** Elements by key: makes those that are new, updates all, forgets those that are gone. */
export class Keyed {
  #entries = new Map();

  constructor(make) {
    this.make = make;
  }

  update(items, keyOf) {
    const entries = new Map();
    for (const item of items) {
      const key = keyOf(item);
      const entry = this.#entries.get(key) ?? this.make(item);
      entry.update(item);
      entries.set(key, entry);
    }
    this.#entries = entries;
    return [...entries.values()];
  }

  get(key) {
    return this.#entries.get(key);
  }
}

/** A table with a caption for screen readers. `labels` are the heads of its columns: [text, class]. */
export function table(caption, labels, className = "") {
  const head = h("tr", { role: "row" });
  for (const [text, column] of labels)
    head.append(h("th", { scope: "col", role: "columnheader", class: column },
      text || h("span", { class: "unseen" }, "Actions")));
  const body = h("tbody", { role: "rowgroup" });
  const element = h("table", { role: "table", class: `cards ${className}` },
    h("caption", { class: "unseen" }, caption), h("thead", { role: "rowgroup" }, head), body);
  return { element, body, labels };
}

/** A cell; its label is shown before it where the table becomes cards. */
export function cell(label, className, ...children) {
  return h("td", { role: "cell", class: className, "data-label": label }, ...children);
}

/** A bar that shows a value and its limit. */
export function limitBar() {
  const fill = h("span", { class: "fill" });
  const bar = h("span", { class: "limit-bar", "aria-hidden": "true" }, fill);
  return {
    element: bar,
    set(value, limit) {
      bar.hidden = !limit;
      const share = limit ? Math.min(1, value / limit) : 0;
      fill.style.width = `${(share * 100).toFixed(1)}%`;
      bar.dataset.level = share >= 0.95 ? "full" : share >= 0.8 ? "high" : "fine";
    },
  };
}
