// The few things that every view does with the page.

/** @template {HTMLElement} T @param {string} id @returns {T} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no ${id}`);
  return /** @type {T} */ (found);
}

/**
 * @param {string} tag @param {{class?: string, text?: string, title?: string, on?: Record<string, (event: any) => void>, attrs?: Record<string, string>}} [has]
 * @param {...(Node|string)} children @returns {HTMLElement}
 */
export function el(tag, has = {}, ...children) {
  const made = document.createElement(tag);
  if (has.class) made.className = has.class;
  if (has.text !== undefined) made.textContent = has.text;
  if (has.title) made.title = has.title;
  for (const [name, value] of Object.entries(has.attrs ?? {})) made.setAttribute(name, value);
  for (const [name, call] of Object.entries(has.on ?? {})) made.addEventListener(name, call);
  made.append(...children);
  return made;
}

/** Writes only what differs: what a screen reader follows is not told twice. @param {Element} node @param {string} text */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @param {HTMLElement} node @param {boolean} hidden */
export function setHidden(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

/** @type {WeakMap<Element, Map<string, {node: HTMLElement, update: (item: any) => void}>>} */
const lists = new WeakMap();

/**
 * Makes the children of `parent` one of each item, in order. Those of items that stay, stay, with focus and all.
 * @template T @param {HTMLElement} parent @param {T[]} items @param {(item: T) => string} idOf
 * @param {(item: T) => {node: HTMLElement, update: (item: T) => void}} make
 */
export function keyed(parent, items, idOf, make) {
  let held = lists.get(parent);
  if (!held) lists.set(parent, (held = new Map()));
  const ids = new Set(items.map(idOf));
  for (const [id, { node }] of held) {
    if (ids.has(id)) continue;
    node.remove();
    held.delete(id);
  }
  items.forEach((item, at) => {
    const id = idOf(item);
    let child = held.get(id);
    if (!child) held.set(id, (child = make(item)));
    child.update(item);
    if (parent.children[at] !== child.node) parent.insertBefore(child.node, parent.children[at] ?? null);
  });
}

/** A sign and a word. @param {Element} node @param {import('./words.js').Standing} standing */
export function setStanding(node, { word, sign, tone, detail }) {
  setText(node, `${sign} ${word}`);
  if (node.getAttribute('data-tone') !== tone) node.setAttribute('data-tone', tone);
  const title = detail || '';
  if (node.getAttribute('title') !== title) node.setAttribute('title', title);
}

/** Fills a select, keeping what is chosen. @param {HTMLSelectElement} select @param {{value: string, text: string}[]} options @param {string} chosen */
export function setOptions(select, options, chosen) {
  const same = select.options.length === options.length && options.every(({ value, text }, at) => select.options[at].value === value && select.options[at].text === text);
  if (!same) select.replaceChildren(...options.map(({ value, text }) => new Option(text, value)));
  if (select.value !== chosen) select.value = chosen;
}

/** The mark of a node: one colour of its own, so that an eye finds the same node again. Its id stands beside it. @param {HTMLElement} node @param {string} id */
export function markId(node, id) {
  node.classList.add('marked');
  node.style.setProperty('--hue', String(hueOf(id)));
}

/** The nodes in the order in which this page has met them. @type {Map<string, number>} */
const met = new Map();

/** The hues that nodes may have, in degrees. Red and green are left out: they say that something is wrong, or right. */
const HUES = [[25, 75], [170, 330]];
const GOLDEN = (Math.sqrt(5) - 1) / 2;

/** The hue of a node, as far as can be from those of all that were met before: each is a golden section on. @param {string} id @returns {number} */
export function hueOf(id) {
  if (!met.has(id)) met.set(id, met.size);
  const width = HUES.reduce((sum, [from, to]) => sum + to - from, 0);
  let along = ((/** @type {number} */ (met.get(id)) * GOLDEN + 0.5) % 1) * width;
  for (const [from, to] of HUES) {
    if (along < to - from) return Math.round(from + along);
    along -= to - from;
  }
  return HUES[0][0];
}

/** Says something to those who can't see it happen. @param {string} text */
export function say(text) {
  setText(byId('said'), text);
}

/** @param {Element} of Whose text is copied. @param {string} name What it is called. @returns {HTMLElement} */
export function copyButton(of, name) {
  return el('button', {
    class: 'small', text: 'Copy', attrs: { type: 'button', 'aria-label': `Copy the ${name}` },
    on: { click: async () => {
      const done = await navigator.clipboard?.writeText(of.textContent ?? '').then(() => true, () => false);
      say(done ? `The ${name} is copied.` : `The browser does not let this page copy; select the ${name} instead.`);
    } },
  });
}
