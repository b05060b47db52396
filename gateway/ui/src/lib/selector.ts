// Reading and changing the selectors of a query by its syntax tree, never by guessing on its text.

import { parser } from '@prometheus-io/lezer-promql';
import type { SyntaxNode } from '@lezer/common';
import { matcherText, metricSelector } from './labels';

interface Selector {
  readonly node: SyntaxNode;
  readonly metric: string | null;
}

/** The names of the metrics that a query selects, in order, each once. */
export function metricsOf(query: string): string[] {
  const names = selectorsOf(query).flatMap((selector) => (selector.metric === null ? [] : [selector.metric]));
  return [...new Set(names)];
}

/**
 * The query with `label="value"` in every selector of `metric`. An equality on the same label is replaced.
 * A query that does not select the metric at all becomes the selector alone.
 */
export function addMatcher(query: string, metric: string, label: string, value: string): string {
  const selectors = selectorsOf(query).filter((selector) => selector.metric === metric);
  if (selectors.length === 0) return selectorWith(metric, matcherText(label, value));
  let result = query;
  for (const selector of selectors.reverse()) result = withMatcher(result, selector.node, label, value);
  return result;
}

function selectorWith(metric: string, matcher: string): string {
  const bare = metricSelector(metric);
  return bare.startsWith('{') ? `${bare.slice(0, -1)}, ${matcher}}` : `${bare}{${matcher}}`;
}

function selectorsOf(query: string): Selector[] {
  const selectors: Selector[] = [];
  parser.parse(query).iterate({
    enter(ref) {
      if (ref.name === 'VectorSelector') selectors.push({ node: ref.node, metric: metricOf(query, ref.node) });
    },
  });
  return selectors;
}

function metricOf(query: string, node: SyntaxNode): string | null {
  const identifier = node.getChild('Identifier');
  if (identifier !== null) return query.slice(identifier.from, identifier.to);
  for (const matcher of matchersOf(node)) {
    if (matcher.name === 'QuotedLabelName') return unquote(query.slice(matcher.from, matcher.to));
    const name = matcherName(query, matcher);
    if (name === '__name__' && matcherOperator(query, matcher) === '=') return matcherValue(query, matcher);
  }
  return null;
}

function matchersOf(node: SyntaxNode): SyntaxNode[] {
  const list = node.getChild('LabelMatchers');
  const found: SyntaxNode[] = [];
  for (let child = list?.firstChild ?? null; child !== null; child = child.nextSibling) {
    if (['UnquotedLabelMatcher', 'QuotedLabelMatcher', 'QuotedLabelName'].includes(child.name)) found.push(child);
  }
  return found;
}

function matcherName(query: string, matcher: SyntaxNode): string {
  const name = matcher.firstChild;
  if (name === null) return '';
  const text = query.slice(name.from, name.to);
  return matcher.name === 'QuotedLabelMatcher' ? unquote(text) : text;
}

function matcherOperator(query: string, matcher: SyntaxNode): string {
  const operator = matcher.getChild('MatchOp');
  return operator === null ? '' : query.slice(operator.from, operator.to);
}

function matcherValue(query: string, matcher: SyntaxNode): string | null {
  const value = matcher.lastChild;
  return value === null ? null : unquote(query.slice(value.from, value.to));
}

function withMatcher(query: string, node: SyntaxNode, label: string, value: string): string {
  const text = matcherText(label, value);
  const matchers = matchersOf(node);
  const same = matchers.find(
    (matcher) => matcher.name !== 'QuotedLabelName' && matcherName(query, matcher) === label && matcherOperator(query, matcher) === '=',
  );
  if (same !== undefined) return splice(query, same.from, same.to, text);
  const last = matchers.at(-1);
  if (last !== undefined) return splice(query, last.to, last.to, `, ${text}`);
  const list = node.getChild('LabelMatchers');
  if (list !== null) return splice(query, list.from, list.to, `{${text}}`);
  return splice(query, node.to, node.to, `{${text}}`);
}

function splice(text: string, from: number, to: number, replacement: string): string {
  return text.slice(0, from) + replacement + text.slice(to);
}

function unquote(literal: string): string {
  const body = literal.slice(1, -1);
  if (literal.startsWith('`')) return body;
  return body.replace(/\\(.)/g, (_, character: string) => (character === 'n' ? '\n' : character === 't' ? '\t' : character));
}
