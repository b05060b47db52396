import { CompletionContext } from '@codemirror/autocomplete';
import { EditorState } from '@codemirror/state';
import { PromQLExtension } from '@prometheus-io/codemirror-promql';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Catalog, completionSource } from '../src/api/catalog';
import { explainError, positionOfError } from '../src/lib/error_position';
import { commonLabels, metricSelector, quote, seriesText } from '../src/lib/labels';
import { addMatcher, metricsOf } from '../src/lib/selector';

describe('label text', () => {
  it('escapes quotes, backslashes and line ends', () => {
    expect(quote('a"b\\c\nd')).toBe('"a\\"b\\\\c\\nd"');
  });

  it('leaves markup as it is: escaping for HTML is not its business', () => {
    expect(seriesText({ __name__: 'm', a: '<img src=x onerror=alert(1)>' })).toBe('m{a="<img src=x onerror=alert(1)>"}');
  });

  it('writes series with labels in order', () => {
    expect(seriesText({ b: '2', __name__: 'up', a: '1' })).toBe('up{a="1", b="2"}');
    expect(seriesText({ __name__: 'up' })).toBe('up');
    expect(seriesText({})).toBe('{}');
  });

  it('quotes names that are not plain', () => {
    expect(metricSelector('my.metric')).toBe('{"my.metric"}');
    expect(seriesText({ __name__: 'my.metric', 'a.b': 'c' })).toBe('{"my.metric", "a.b"="c"}');
  });

  it('finds what all label sets share', () => {
    expect(commonLabels([{ a: '1', b: '2' }, { a: '1', b: '3' }])).toEqual({ a: '1' });
    expect(commonLabels([{ a: '1' }])).toEqual({});
  });
});

describe('metricsOf', () => {
  it('finds names in every form, each once', () => {
    expect(metricsOf('sum(rate(a{x="y"}[5m])) / a + {"b.c", q="r"} + {__name__="d"}')).toEqual(['a', 'b.c', 'd']);
  });

  it('does not take function names, labels or strings for metrics', () => {
    expect(metricsOf('label_replace(up, "x", "$1", "job", "(.*)")')).toEqual(['up']);
  });

  it('survives half-typed queries', () => {
    expect(metricsOf('sum(rate(node_cpu')).toEqual(['node_cpu']);
    expect(metricsOf('')).toEqual([]);
  });
});

describe('addMatcher', () => {
  it.each([
    ['', 'up{job="a"}'],
    ['up', 'up{job="a"}'],
    ['up{}', 'up{job="a"}'],
    ['up{x!="y"}', 'up{x!="y", job="a"}'],
    ['up{job="b",x="y"}', 'up{job="a",x="y"}'],
    ['up{job!="b"}', 'up{job!="b", job="a"}'],
    ['sum(rate(up[5m]))', 'sum(rate(up{job="a"}[5m]))'],
    ['up / on() other + up{x="y"}', 'up{job="a"} / on() other + up{x="y", job="a"}'],
    ['{__name__="up"}', '{__name__="up", job="a"}'],
    ['other', 'up{job="a"}'],
  ])('turns %j into %j', (query, expected) => expect(addMatcher(query, 'up', 'job', 'a')).toBe(expected));

  it('quotes what needs quotes', () => {
    expect(addMatcher('{"my.metric"}', 'my.metric', 'a.b', 'say "hi"')).toBe('{"my.metric", "a.b"="say \\"hi\\""}');
  });
});

describe('positionOfError', () => {
  it('reads line and column', () => {
    const query = 'sum(up)\n  by bad)';
    expect(positionOfError(query, '2:6: parse error: unexpected identifier "bad"')).toEqual({
      offset: 13,
      line: 2,
      column: 6,
      message: 'parse error: unexpected identifier "bad"',
    });
  });

  it('skips what stands before the position', () => {
    expect(positionOfError('up(', 'invalid parameter "query": 1:4: parse error: unclosed left parenthesis')?.offset).toBe(3);
  });

  it('counts columns in bytes, as the server does', () => {
    expect(positionOfError('{a="é"} x', '1:10: parse error: unexpected identifier "x"')?.offset).toBe(8);
  });

  it('never points outside of the query', () => {
    expect(positionOfError('up', '1:99: parse error: unexpected end of input')?.offset).toBe(2);
    expect(positionOfError('up', '7:1: parse error: nonsense')).toBeNull();
    expect(positionOfError('up', 'query timed out in 2:30')).toBeNull();
  });
});

describe('explainError', () => {
  it('leaves out which parameter the query was', () => {
    expect(explainError('invalid parameter "query": unknown function')).toBe('unknown function');
    expect(explainError('invalid parameter "step": zero')).toBe('invalid parameter "step": zero');
  });

  it.each(['range vector', 'string'])('says where a %s can be seen', (type) => {
    const text = explainError(`invalid parameter "query": invalid expression type "${type}" for range query, must be Scalar or instant Vector`);
    expect(text).toBe(`The result is a ${type}, which has no graph. The table shows it; a graph takes an instant vector or a scalar.`);
  });
});

describe('completion', () => {
  afterEach(() => vi.unstubAllGlobals());

  /** What is offered where the `|` stands. */
  const completions = async (marked: string, answers: Record<string, unknown>): Promise<{ labels: string[]; asked: string[] }> => {
    const asked: string[] = [];
    vi.stubGlobal('fetch', async (url: string) => {
      asked.push(decodeURIComponent(url));
      const path = url.slice('api/v1/'.length).split('?')[0] ?? '';
      return new Response(JSON.stringify({ status: 'success', data: answers[path] ?? [] }));
    });
    const promql = new PromQLExtension().activateLinter(false).setComplete({ remote: completionSource(new Catalog()) });
    const position = marked.indexOf('|');
    const state = EditorState.create({ doc: marked.replace('|', ''), extensions: promql.asExtension() });
    const context = new CompletionContext(state, position, true);
    const result = await promql.getComplete().promQL(context);
    return { labels: (result?.options ?? []).map((option) => option.label), asked };
  };

  it('offers metrics and functions at the start of an expression', async () => {
    const { labels } = await completions('ra|', { 'label/__name__/values': ['rain_total'], metadata: {} });
    expect(labels).toContain('rain_total');
    expect(labels).toContain('rate');
  });

  it('offers the labels of the metric inside of braces', async () => {
    const { labels, asked } = await completions('up{|}', { labels: ['job', 'instance'] });
    expect(labels).toEqual(expect.arrayContaining(['job', 'instance']));
    expect(asked).toContain('api/v1/labels?match[]={__name__="up"}');
  });

  it('offers values narrowed down by the metric and the other matchers', async () => {
    const { labels, asked } = await completions('up{dc="eu",job="|"}', { 'label/job/values': ['node'] });
    expect(labels).toContain('node');
    expect(asked).toContain('api/v1/label/job/values?match[]={__name__="up",dc="eu"}');
  });

  it('offers nothing, and does not fail, when the server does not answer', async () => {
    vi.stubGlobal('fetch', async () => Promise.reject(new TypeError('offline')));
    const source = completionSource(new Catalog());
    expect(await source.metricNames()).toEqual([]);
    expect(await source.labelValues('job')).toEqual([]);
  });
});
