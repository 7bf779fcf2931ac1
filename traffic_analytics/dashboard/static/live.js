// Repeat work while the tab is visible.

/**
 * Run `work` now, and again after the seconds that it returns, or never again after null. Nothing runs while the tab is
 * hidden. Returns a function that ends it.
 * @param {() => Promise<number | null>} work
 */
export function whileVisible(work) {
  let timer = 0;
  let isOver = false;
  let isRunning = false;

  async function run() {
    clearTimeout(timer);
    if (isOver || isRunning || document.hidden) {
      return;
    }
    isRunning = true;
    const seconds = await work().finally(() => {
      isRunning = false;
    });
    isOver ||= seconds === null;
    if (!isOver && seconds !== null && !document.hidden) {
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
