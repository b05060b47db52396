// Light or dark: what the system prefers, unless the reader chose otherwise.
//
// The root element always carries the outcome (`data-theme`), so the style sheet names each theme once.

import { useEffect, useState } from 'preact/hooks';

type Theme = 'system' | 'light' | 'dark';

const KEY = 'millstream.theme';
const THEMES: readonly Theme[] = ['system', 'light', 'dark'];
const systemPrefersDark = matchMedia('(prefers-color-scheme: dark)');

function storedTheme(): Theme {
  try {
    return THEMES.find((theme) => theme === localStorage.getItem(KEY)) ?? 'system';
  } catch {
    // Storage may be forbidden; then the choice lasts as long as the page.
    return 'system';
  }
}

/** Shows the theme at once, and says whether it is the dark one. */
function applyTheme(theme: Theme): boolean {
  const dark = theme === 'dark' || (theme === 'system' && systemPrefersDark.matches);
  document.documentElement.dataset['theme'] = dark ? 'dark' : 'light';
  return dark;
}

/** Whether the page is dark now, and a function that switches to the other one. */
export function useTheme(): { dark: boolean; toggle: () => void } {
  const [theme, setTheme] = useState<Theme>(storedTheme);
  // Applied before the render that depends on it: the chart reads its colours from the style sheet.
  const [dark, setDark] = useState(() => applyTheme(theme));

  useEffect(() => {
    const follow = (): void => setDark(applyTheme(theme));
    systemPrefersDark.addEventListener('change', follow);
    return () => systemPrefersDark.removeEventListener('change', follow);
  }, [theme]);

  const toggle = (): void => {
    // Choosing what the system prefers anyway means following it again.
    const wanted: Theme = dark ? 'light' : 'dark';
    const next = (wanted === 'dark') === systemPrefersDark.matches ? 'system' : wanted;
    setTheme(next);
    setDark(applyTheme(next));
    try {
      localStorage.setItem(KEY, next);
    } catch {
      // As above.
    }
  };
  return { dark, toggle };
}
