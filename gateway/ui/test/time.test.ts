import { describe, expect, it } from 'vitest';
import { formatDuration, parseDuration } from '../src/lib/duration';
import { automaticStep, POINTS_MAX, queryWindow, RANGE_PRESETS, rangeLabel, scaled, shifted, stepProblem, toInputValue, fromInputValue } from '../src/lib/time_range';

describe('durations', () => {
  it.each([
    ['15s', 15],
    ['1h30m', 5_400],
    ['500ms', 0.5],
    ['1w', 604_800],
    ['90', 90],
    ['0.25', 0.25],
    [' 5m ', 300],
  ])('reads %s', (text, seconds) => expect(parseDuration(text)).toBe(seconds));

  it.each(['', '0', '0s', '-5m', '5x', 'm5', '1m1h', 'abc'])('refuses %j', (text) => expect(parseDuration(text)).toBeNull());

  it('writes back what it reads', () => {
    for (const seconds of [0.001, 0.25, 1, 59, 60, 3_661, 86_400, 90_061.5, 30 * 86_400]) {
      expect(parseDuration(formatDuration(seconds))).toBeCloseTo(seconds, 6);
    }
  });

  it('writes the shortest units', () => {
    expect(formatDuration(5_400)).toBe('1h30m');
    expect(formatDuration(1_209_600)).toBe('14d');
  });
});

describe('the step', () => {
  it('gives at most one point per two pixels and never more than the server allows', () => {
    for (const { seconds } of RANGE_PRESETS) {
      for (const width of [300, 800, 4_000]) {
        const points = seconds / automaticStep(seconds, width);
        expect(points).toBeLessThanOrEqual(Math.max(100, width / 2));
        expect(points).toBeLessThan(POINTS_MAX);
        expect(points).toBeGreaterThan(20);
      }
    }
  });

  it('stays allowed for decades', () => {
    expect(stepProblem(40 * 365 * 86_400, automaticStep(40 * 365 * 86_400, 1_000))).toBeNull();
  });

  it('names the number of points when there are too many', () => {
    expect(stepProblem(86_400, 1)).toContain('86,401');
    expect(stepProblem(10_999, 1)).toBeNull();
    expect(stepProblem(11_000, 1)).not.toBeNull();
  });
});

describe('the window', () => {
  const hour = { kind: 'relative', seconds: 3_600 } as const;

  it('starts and ends on multiples of the step when it is live', () => {
    const window = queryWindow(hour, 1_700_000_007.3, 15, 1_000, true);
    expect(window.start % 15).toBe(0);
    expect(window.end % 15).toBe(0);
    expect(window.end).toBeLessThanOrEqual(1_700_000_007.3);
    expect(window.end).toBeGreaterThan(1_700_000_007.3 - 15);
    expect(window.step).toBe(15);
  });

  it('stays the same while less than a step passes when it is live', () => {
    const range = { kind: 'relative', seconds: 900 } as const;
    expect(queryWindow(range, 1_700_000_000, 15, 800, true)).toEqual(queryWindow(range, 1_700_000_004, 15, 800, true));
  });

  it('ends now when it is asked once, so that the newest sample is in it', () => {
    expect(queryWindow(hour, 1_700_000_007.3, 15, 1_000, false)).toEqual({ start: 1_699_996_408, end: 1_700_000_008, step: 15 });
    expect(queryWindow({ kind: 'relative', seconds: 2 }, 1_700_000_007.3, 0.1, 1_000, false)).toEqual({
      start: 1_700_000_005.3,
      end: 1_700_000_007.3,
      step: 0.1,
    });
  });

  it('never asks for more than the range, in whole steps', () => {
    const { start, end } = queryWindow({ kind: 'relative', seconds: 100 }, 1_700_000_007, 15, 1_000, false);
    expect(end - start).toBe(90);
  });

  it('is exact to the millisecond with steps below a second', () => {
    const window = queryWindow({ kind: 'absolute', from: 100.1, to: 100.9 }, 0, 0.1, 800, false);
    expect(window).toEqual({ start: 100.1, end: 100.9, step: 0.1 });
  });
});

describe('moving', () => {
  const range = { kind: 'absolute', from: 1_000, to: 2_000 } as const;

  it('shifts by half its length', () => {
    expect(shifted(range, 0, -0.5)).toEqual({ kind: 'absolute', from: 500, to: 1_500 });
  });

  it('scales round its middle', () => {
    expect(scaled(range, 0, 2)).toEqual({ kind: 'absolute', from: 500, to: 2_500 });
  });

  it('fixes a relative range where it was', () => {
    expect(shifted({ kind: 'relative', seconds: 100 }, 5_000, 0)).toEqual({ kind: 'absolute', from: 4_900, to: 5_000 });
  });

  it('names ranges', () => {
    expect(rangeLabel({ kind: 'relative', seconds: 3_600 })).toBe('Last 1 hour');
    expect(rangeLabel({ kind: 'relative', seconds: 5_400 })).toBe('Last 1h30m');
    const noon = new Date(2026, 10, 21, 12).getTime() / 1000;
    expect(rangeLabel({ kind: 'absolute', from: noon, to: noon + 61 })).toBe('2026-11-21 12:00:00 – 12:01:01');
    expect(rangeLabel({ kind: 'absolute', from: noon, to: noon + 86_400 })).toBe('2026-11-21 12:00:00 – 2026-11-22 12:00:00');
  });

  it('passes through the date inputs', () => {
    expect(fromInputValue(toInputValue(1_700_000_001))).toBe(1_700_000_001);
    expect(fromInputValue('')).toBeNull();
    expect(fromInputValue('nonsense')).toBeNull();
  });
});
