// Light or dark: as the system has it, or as the reader wants it.

/** Applies the theme that is set, now and whenever it changes. */
export function applyTheme(settings) {
  const apply = () => {
    const theme = settings.get("theme");
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  };
  settings.addEventListener("change", (event) => event.detail === "theme" && apply());
  apply();
}

/** Whether the page is dark now. */
export function isDark(settings) {
  const theme = settings.get("theme");
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
