/** The theme a reader chose in the dashboard holds here too: same origin, same storage. */
export const applyTheme = (): void => {
  try {
    const theme = localStorage.getItem("twintrack.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be closed to us; the system's theme then holds.
  }
};
