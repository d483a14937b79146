// Moving and enlarging a map by pointer, fingers or keys, and asking what is under the pointer.

const STEP = 0.1;
const CLICK = 6;

/**
 * Let a canvas be moved.
 * @param {HTMLCanvasElement} canvas
 * @param {import("./map.js").View} view
 * @param {{changed: function, over: function, clicked: function}} told  `over` and `clicked` get x and y in shares of
 *   the canvas's width, or null
 */
export function gestures(canvas, view, { changed, over, clicked }) {
  const pointers = new Map();
  let travelled = 0;
  const share = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.width];
  };
  const spread = () => {
    const [one, other] = [...pointers.values()];
    return { middle: [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2], apart: Math.hypot(one[0] - other[0], one[1] - other[1]) };
  };

  const listeners = {
    pointerdown(event) {
      pointers.set(event.pointerId, share(event));
      travelled = 0;
      // A finger alone scrolls the page.
      if (event.pointerType !== "touch") canvas.setPointerCapture(event.pointerId);
    },
    pointermove(event) {
      const here = share(event);
      if (!pointers.has(event.pointerId)) return over(here);
      const before = pointers.get(event.pointerId);
      travelled += Math.hypot(here[0] - before[0], here[1] - before[1]) * canvas.clientWidth;
      if (pointers.size === 2) {
        const { middle, apart } = spread();
        pointers.set(event.pointerId, here);
        const now = spread();
        view.zoomBy(now.apart / Math.max(apart, 0.01), ...now.middle);
        view.moveBy(now.middle[0] - middle[0], now.middle[1] - middle[1]);
        return changed();
      }
      pointers.set(event.pointerId, here);
      if (event.pointerType === "touch") return null;
      view.moveBy(here[0] - before[0], here[1] - before[1]);
      return changed();
    },
    pointerup(event) {
      if (pointers.delete(event.pointerId) && travelled < CLICK && pointers.size === 0) clicked(share(event));
    },
    pointercancel: (event) => pointers.delete(event.pointerId),
    pointerleave(event) {
      if (event.pointerType === "touch") pointers.delete(event.pointerId);
      over(null);
    },
    wheel(event) {
      // The wheel scrolls the page, unless the map was chosen before.
      if (document.activeElement !== canvas && !event.ctrlKey) return;
      event.preventDefault();
      view.zoomBy(Math.exp(-event.deltaY / 400), ...share(event));
      changed();
    },
    keydown(event) {
      const moves = { ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP] };
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key in moves) view.moveBy(...moves[event.key]);
      else if (event.key === "+" || event.key === "=") view.zoomBy(1.5);
      else if (event.key === "-") view.zoomBy(1 / 1.5);
      else if (event.key === "0") view.reset();
      else return;
      event.preventDefault();
      changed();
    },
  };
  const stopped = new AbortController();
  for (const [name, listener] of Object.entries(listeners)) {
    canvas.addEventListener(name, listener, { passive: false, signal: stopped.signal });
  }
  return () => stopped.abort();
}
