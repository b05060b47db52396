// Durations as Prometheus writes them: `15s`, `1h30m`, `500ms`, or a plain number of seconds.

const UNIT_SECONDS: ReadonlyArray<readonly [string, number]> = [
  ['y', 365 * 86_400],
  ['w', 7 * 86_400],
  ['d', 86_400],
  ['h', 3_600],
  ['m', 60],
  ['s', 1],
  ['ms', 0.001],
];

const PATTERN = /^(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$/;

/** Seconds of a duration, or null when the text is none. Zero is not a duration here. */
export function parseDuration(text: string): number | null {
  const trimmed = text.trim();
  if (trimmed === '') return null;
  if (/^\d+(\.\d+)?$/.test(trimmed)) {
    const seconds = Number(trimmed);
    return seconds > 0 ? seconds : null;
  }
  const match = PATTERN.exec(trimmed);
  if (match === null) return null;
  let seconds = 0;
  UNIT_SECONDS.forEach(([, unit], index) => {
    seconds += Number(match[index + 1] ?? 0) * unit;
  });
  return seconds > 0 ? seconds : null;
}

/** The shortest exact text for a number of seconds; weeks and years are written as days. */
export function formatDuration(seconds: number): string {
  let milliseconds = Math.round(seconds * 1000);
  let text = '';
  for (const [unit, unitSeconds] of UNIT_SECONDS) {
    if (unit === 'y' || unit === 'w') continue;
    const unitMilliseconds = unitSeconds * 1000;
    const count = Math.floor(milliseconds / unitMilliseconds);
    if (count > 0) {
      text += `${count}${unit}`;
      milliseconds -= count * unitMilliseconds;
    }
  }
  return text === '' ? '0s' : text;
}
