// The options of a list that is made anew while somebody may have chosen from it.

/** Fills `select`, and keeps what was chosen where it is still there. */
export function fill(select, options) {
  const before = select.options.length > 1 ? select.value : null; // with one option there was nothing to choose
  select.replaceChildren(...options);
  if (options.some((option) => option.value === before)) select.value = before;
}
