// Line colours that stay apart from each other and from the background.

const LIGHT = ['#0f766e', '#d9480f', '#3b5bdb', '#c2255c', '#66a80f', '#7048e8', '#c99a00', '#7d4f2b', '#c13ad1', '#64748b'] as const;
const DARK = ['#2dd4bf', '#ff922b', '#7c9cff', '#f9708f', '#a9e34b', '#b197fc', '#ffd43b', '#d8a47f', '#e583f5', '#a9b8c4'] as const;

/** The golden angle spreads further hues evenly, however many follow. */
const GOLDEN_ANGLE_DEGREES = 137.508;

export function seriesColor(index: number, dark: boolean): string {
  const palette = dark ? DARK : LIGHT;
  const fixed = palette[index];
  if (fixed !== undefined) return fixed;
  const hue = Math.round((index * GOLDEN_ANGLE_DEGREES) % 360);
  return dark ? `hsl(${hue} 75% ${index % 2 === 0 ? 70 : 60}%)` : `hsl(${hue} 70% ${index % 2 === 0 ? 38 : 46}%)`;
}
