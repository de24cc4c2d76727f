// Work that is done at most once a frame, however often it is asked for.

/**
 * @param {() => void} work @param {(call: () => void) => unknown} [request] By default, the browser's next frame.
 * @returns {() => void} Asks for it.
 */
export function oncePerFrame(work, request = (call) => requestAnimationFrame(call)) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    request(() => {
      asked = false;
      work();
    });
  };
}
