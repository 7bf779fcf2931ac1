// Repeat work while the tab is visible.

/**
 * Run `work` now and then every `seconds`; nothing runs while the tab is hidden. Returns a function that ends it.
 * @param {() => Promise<void>} work
 * @param {number} seconds
 */
export function whileVisible(work, seconds) {
  let timer = 0;
  let isOver = false;
  let isRunning = false;

  async function run() {
    clearTimeout(timer);
    if (isOver || isRunning || document.hidden) {
      return;
    }
    isRunning = true;
    try {
      await work();
    } finally {
      isRunning = false;
    }
    if (!isOver && !document.hidden) {
      timer = setTimeout(run, seconds * 1000);
    }
  }

  document.addEventListener("visibilitychange", run);
  run();
  return () => {
    isOver = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", run);
  };
}
