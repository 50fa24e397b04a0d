// One way to point at places along a line, by mouse, finger and keys: a slider to a screen reader.

/**
 * Makes a slider of an element.
 *
 * label: what it is. size: how many places. describe(place): the place in words.
 * show(place), hide(): called as places are pointed at. open(place): by Enter.
 * move(event): takes keys that are not the slider's, such as those to the next strip.
 */
function makePicker(element, { label, size, describe, show, hide, open, move }) {
  let place = 0;
  element.setAttribute("role", "slider");
  element.setAttribute("aria-label", label);
  element.setAttribute("aria-valuemin", "0");
  element.setAttribute("aria-valuemax", String(Math.max(size - 1, 0)));
  element.setAttribute("aria-valuenow", "0");
  element.tabIndex = 0;

  function go(to) {
    place = Math.min(Math.max(to, 0), size - 1);
    element.setAttribute("aria-valuenow", String(place));
    element.setAttribute("aria-valuetext", describe(place));
    show(place);
  }

  const leap = Math.max(10, Math.round(size / 10));
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -leap, PageDown: leap, Home: -size, End: size };
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !size) return;
    if (event.key in steps) go(place + steps[event.key]);
    else if (event.key === "Enter") open(place);
    else if (event.key === "Escape") hide();
    else if (!move || !move(event)) return;
    event.preventDefault();
  });
  // Not on every focus: a click gives focus, too, and shows its own place.
  element.addEventListener("focus", () => element.matches(":focus-visible") && size && go(place));
  element.addEventListener("blur", hide);
}
