// Elements made from plain values, and a way to bring what is on the page in
// line with them without replacing it: focus, selection and what a screen
// reader has found stay where they are while figures change every second.

const svgNamespace = "http://www.w3.org/2000/svg";
const svgTags = new Set(["svg", "path", "polyline", "circle", "title", "g"]);

// h makes an element. A property that is null, undefined or false is left out,
// true is an empty attribute, and everything else becomes text: markup in a
// value stays text. "key" names an element among its siblings for patch.
export function h(tag, properties, ...children) {
  const node = svgTags.has(tag)
    ? document.createElementNS(svgNamespace, tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(name === "key" ? "data-key" : name, value === true ? "" : String(value));
  }
  node.append(...flat(children));
  return node;
}

function flat(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false && child !== "")
    .map((child) => (child instanceof Node ? child : String(child)));
}

// patch makes the children of a container look like the wanted ones. Elements
// are matched by their keys, others by their place and kind.
export function patch(container, ...wanted) {
  const focused = document.activeElement;
  patchChildren(container, toNodes(flat(wanted)));
  // A row that changed its place lost the focus on the way.
  if (focused && focused !== document.activeElement && container.contains(focused)) {
    focused.focus({ preventScroll: true });
  }
}

function toNodes(children) {
  const holder = document.createDocumentFragment();
  holder.append(...children);
  return [...holder.childNodes];
}

const keyOf = (node) => (node instanceof Element ? node.getAttribute("data-key") : null);

function alike(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);
}

function patchChildren(parent, wanted) {
  const keyed = new Map();
  for (const child of parent.childNodes) {
    const key = keyOf(child);
    if (key !== null) keyed.set(key, child);
  }
  let at = parent.firstChild;
  for (const node of wanted) {
    const key = keyOf(node);
    let match = at;
    if (key !== null) match = keyed.get(key) ?? null;
    if (!match || !alike(match, node)) {
      parent.insertBefore(node, at);
      continue;
    }
    if (match === at) at = at.nextSibling;
    else parent.insertBefore(match, at);
    patchNode(match, node);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function patchNode(node, wanted) {
  if (!(node instanceof Element)) {
    if (node.data !== wanted.data) node.data = wanted.data;
    return;
  }
  for (const { name } of [...node.attributes]) {
    // What is open was opened by whoever reads the page.
    if (!wanted.hasAttribute(name) && name !== "open") node.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  patchChildren(node, [...wanted.childNodes]);
}

// byID returns an element that index.html has.
export function byID(id) {
  const node = document.getElementById(id);
  if (!node) throw new Error(`index.html has no #${id}`);
  return node;
}

// setText changes a text only when it is another one, so that live regions do
// not repeat themselves.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
