// The PromQL input. It lives in a shadow root, because there CodeMirror installs its styles as constructed
// style sheets, which the strict Content-Security-Policy allows; in the document it would add <style> elements.

import { acceptCompletion, autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from '@codemirror/autocomplete';
import { defaultKeymap, history, historyKeymap, insertNewline } from '@codemirror/commands';
import { bracketMatching, syntaxHighlighting } from '@codemirror/language';
import { EditorState, Prec } from '@codemirror/state';
import { drawSelection, EditorView, keymap, placeholder } from '@codemirror/view';
import { PromQLExtension, type PrometheusClient } from '@prometheus-io/codemirror-promql';
import type { PositionedError } from '../lib/error_position';
import { errorMarker, showError } from './error_marker';
import { editorTheme, highlightStyle } from './theme';

const METRICS_WITH_METADATA_MAX = 10_000;

export interface QueryEditorOptions {
  readonly host: HTMLElement;
  readonly text: string;
  readonly label: string;
  readonly source: PrometheusClient;
  readonly onRun: () => void;
  readonly onFocus: () => void;
}

export class QueryEditor {
  private readonly view: EditorView;
  private readonly promql = new PromQLExtension();

  constructor(options: QueryEditorOptions) {
    const root = options.host.shadowRoot ?? options.host.attachShadow({ mode: 'open', delegatesFocus: true });
    // The server alone judges queries, so the extension's own linter stays off: two judges may disagree.
    this.promql.activateLinter(false).setComplete({ remote: options.source, maxMetricsMetadata: METRICS_WITH_METADATA_MAX });
    this.view = new EditorView({
      root,
      parent: root,
      state: EditorState.create({
        doc: options.text,
        extensions: [
          history(),
          drawSelection(),
          bracketMatching(),
          closeBrackets(),
          autocompletion({ icons: false }),
          EditorView.lineWrapping,
          EditorState.tabSize.of(2),
          placeholder('PromQL, for example rate(http_requests_total[5m])'),
          EditorView.contentAttributes.of({ 'aria-label': options.label, spellcheck: 'false', autocapitalize: 'off', autocorrect: 'off' }),
          this.promql.asExtension(),
          syntaxHighlighting(highlightStyle),
          editorTheme,
          errorMarker,
          Prec.highest(
            keymap.of([
              { key: 'Enter', run: acceptCompletion },
              { key: 'Tab', run: acceptCompletion },
              {
                key: 'Enter',
                run: () => {
                  options.onRun();
                  return true;
                },
              },
              { key: 'Shift-Enter', run: insertNewline },
            ]),
          ),
          keymap.of([...closeBracketsKeymap, ...completionKeymap, ...historyKeymap, ...defaultKeymap]),
          EditorView.updateListener.of((update) => {
            if (update.focusChanged && update.view.hasFocus) options.onFocus();
          }),
        ],
      }),
    });
  }

  get text(): string {
    return this.view.state.doc.toString();
  }

  /** Replaces the text when it differs; the cursor goes to its end. */
  setText(text: string): void {
    if (text === this.text) return;
    this.view.dispatch({ changes: { from: 0, to: this.view.state.doc.length, insert: text }, selection: { anchor: text.length } });
  }

  setError(error: PositionedError | null): void {
    this.view.dispatch({ effects: showError.of(error) });
  }

  focus(): void {
    this.view.focus();
  }

  destroy(): void {
    this.view.destroy();
    this.promql.destroy();
  }
}
