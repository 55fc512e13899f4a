/** Elements, made of texts only: nothing on this page is ever read as markup. */

/**
 * @param {string} tag
 * @param {{class?: string, text?: string, attributes?: Record<string, string>}} [options]
 * @param {...(Node | undefined)} children
 */
export function element(tag, { class: className, text, attributes = {} } = {}, ...children) {
  const made = document.createElement(tag);
  if (className !== undefined) made.className = className;
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== undefined));
  return made;
}

/** Sets a text where it is another: a text that stays can be selected and is not read out anew. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setHidden(node, isHidden) {
  if (node.hidden !== isHidden) node.hidden = isHidden;
}

/** Makes `list` hold `children` in their order, moving none that is in place, so that the focus stays where it is. */
export function setChildren(list, children) {
  const focused = document.activeElement;
  const wanted = new Set(children);
  for (const child of [...list.children]) if (!wanted.has(child)) child.remove();
  children.forEach((child, index) => {
    if (list.children[index] !== child) list.insertBefore(child, list.children[index] ?? null);
  });
  if (focused instanceof HTMLElement && focused.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}
