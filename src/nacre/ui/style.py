"""How the page looks: Gradio's theme with fonts of the reader's machine, and what the page draws itself."""

from typing import Any

import gradio as gr

_FONTS = ("system-ui", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "sans-serif")

STYLE = """
.gradio-container { max-width: 75rem !important; margin: 0 auto !important }
.gradio-container, .gradio-container main, .gradio-container main > .wrap { width: 100% !important }
.gradio-container button[role=tab].selected { color: #0f766e; border-color: #0f766e }
.dark .gradio-container button[role=tab].selected { color: #5eead4 }
.n-row { align-items: flex-end !important }
#n-left .wrapper, #n-right .wrapper { padding-top: 1.9rem } /* else its label lies on what was said */
.n-html h2 { font-size: 1.2rem; font-weight: 600; margin: 1.2rem 0 .3rem }
.n-html h3 { font-size: 1.02rem; font-weight: 600; margin: .8rem 0 .3rem }
.n-html p, .n-html ul { margin: .4rem 0 }
.n-html ul.n-soft { list-style: disc; padding-left: 1.3rem }
.n-names svg { display: inline; vertical-align: middle }
.n-lineage svg { width: 100%; height: auto; min-width: 46rem; border-radius: 6px }
.n-head { display: flex; align-items: center; justify-content: space-between; gap: 1rem }
.n-head h1 { font-size: 1.4rem; font-weight: 700; margin: 0 }
.n-head nav { display: flex; gap: 1rem; align-items: center }
.n-head a, .n-head button { color: var(--body-text-color); text-decoration: underline; background: none; border: 0;
  padding: .4rem; font: inherit; cursor: pointer }
#n-pairs td { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 9rem }
.n-wide { overflow-x: auto; padding: 3px }
.n-wide:focus-visible, .n-head a:focus-visible, .n-head button:focus-visible { outline: 3px solid #2f7fd0 }
.gradio-container button:focus-visible, .gradio-container input:focus-visible { outline: 3px solid #2f7fd0 !important;
  outline-offset: 2px }
.n-soft, .n-names { color: var(--body-text-color-subdued); font-size: .92rem }
.n-said { border-left: 4px solid #14796f; padding: .2rem .7rem; margin: .3rem 0 }
.n-wrong { border-color: #b3402a }
.n-table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .95rem }
.n-table th, .n-table td { text-align: left; padding: .4rem .6rem; border-bottom: 1px solid var(--border-color-primary);
  vertical-align: top }
.n-table th { white-space: nowrap; font-weight: 600 }
.n-heat { border-collapse: separate; border-spacing: 3px; font-variant-numeric: tabular-nums }
.n-heat th { font-weight: 500; text-align: left; padding: .3rem .5rem; white-space: nowrap }
.n-heat thead th { text-align: center; white-space: normal }
.n-heat td { text-align: center; border-radius: 4px; padding: .45rem .6rem; min-width: 3.6rem }
.n-heat td.n-learned { outline: 2px solid var(--body-text-color); outline-offset: -2px; font-weight: 600 }
.n-plot { width: 100%; min-width: 32rem; max-width: 60rem; height: auto; border-radius: 6px }
.n-names, .n-figures { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; list-style: none; padding: 0;
  margin: .4rem 0 }
.n-names li, .n-figures li { margin: 0 !important }
.n-facts { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: .4rem 0 }
.n-facts dt { color: var(--body-text-color-subdued) }
.n-facts dd { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap }
.n-cards { list-style: none; padding: 0; display: grid; gap: .7rem;
  grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)) }
.n-cards li { border: 1px solid var(--border-color-primary); border-radius: 8px; padding: .6rem .9rem;
  margin: 0 !important }
.n-cards p { margin: 0 }
.n-frame { width: 100%; height: 75vh; border: 1px solid var(--border-color-primary); border-radius: 8px;
  background: #fff }
progress { width: 100%; max-width: 60rem }
@media (max-width: 40rem) {
  .n-facts { grid-template-columns: 1fr; gap: 0 }
  .n-facts dd { margin-bottom: .4rem }
  .n-heat td { min-width: 2.9rem; padding: .4rem .3rem }
  .n-heat th { font-size: .85rem; padding: .2rem .3rem; white-space: normal; overflow-wrap: break-word }
  .n-heat tbody th { max-width: 7rem }
}
"""


def theme() -> Any:
    """Gradio's, with nothing that is fetched from elsewhere and colours that can be read."""
    return gr.themes.Default(
        primary_hue="teal", neutral_hue="slate", font=list(_FONTS), font_mono=["ui-monospace", "monospace"]
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_text_color="white",
        button_cancel_background_fill="#a83a26",
        button_cancel_background_fill_hover="#8f2f1e",
        button_cancel_background_fill_dark="#a83a26",
        button_cancel_text_color="white",
        body_text_color_subdued="*neutral_600",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        block_info_text_color="*neutral_600",
        input_placeholder_color="*neutral_500",
    )
