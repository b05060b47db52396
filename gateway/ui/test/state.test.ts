import { describe, expect, it } from 'vitest';
import { decodeState, DEFAULT_STATE, encodeState, QUERIES_MAX, type PageState } from '../src/lib/url_state';

describe('the URL', () => {
  it('says nothing about the default state', () => {
    expect(encodeState(DEFAULT_STATE)).toBe('');
    expect(decodeState('')).toEqual(DEFAULT_STATE);
  });

  it('carries every part of the state there and back', () => {
    const state: PageState = {
      queries: [
        { expr: 'rate(a{b="c&d=e#f+g %"}[5m])', enabled: true },
        { expr: 'über\nzwei', enabled: false },
      ],
      range: { kind: 'absolute', from: 1_700_000_000.25, to: 1_700_000_900 },
      step: 15,
      refresh: 5,
      view: 'table',
    };
    expect(decodeState(encodeState(state))).toEqual(state);
    const relative: PageState = { ...state, range: { kind: 'relative', seconds: 1_800 }, step: null };
    expect(decodeState(encodeState(relative))).toEqual(relative);
  });

  it('leaves empty rows out', () => {
    expect(encodeState({ ...DEFAULT_STATE, queries: [{ expr: ' ', enabled: true }, { expr: 'up', enabled: true }] })).toBe('?q=up');
  });

  it('takes no more queries than the page has rows', () => {
    const search = `?${Array.from({ length: 20 }, (_, index) => `q=a${index}`).join('&')}`;
    expect(decodeState(search).queries).toHaveLength(QUERIES_MAX);
  });

  it.each([
    '?range=nonsense',
    '?from=5&to=4',
    '?from=&to=',
    '?from=x&to=y',
    '?from=1',
    '?step=0',
    '?refresh=1',
    '?refresh=-5',
    '?view=../../etc',
    '?q=',
    '?%',
  ])('falls back to defaults for %s', (search) => expect(decodeState(search)).toEqual(DEFAULT_STATE));
});
