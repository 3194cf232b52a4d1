"""The page that asks for a key: no script."""

from html import escape

from nacre.ui.words import word

_STYLE = """
:root { color-scheme: light dark; --ink: #202428; --paper: #fff; --line: #6b7176; --act: #0f5f5b }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --paper: #15181b; --line: #9aa0a6; --act: #0f6f6a } }
body { font: 16px/1.5 system-ui, "Noto Sans CJK SC", sans-serif; color: var(--ink); background: var(--paper);
  display: grid; place-items: center; min-height: 90vh; margin: 0; padding: 1rem }
main { width: min(24rem, 100%) }
label { display: block; margin: 1rem 0 .3rem }
input, button { font: inherit; width: 100%; box-sizing: border-box; padding: .6rem .8rem; border-radius: 6px }
input { border: 1px solid var(--line); background: var(--paper); color: var(--ink) }
button { margin-top: 1rem; border: 0; background: var(--act); color: #fff; cursor: pointer }
:focus-visible { outline: 3px solid #2f7fd0; outline-offset: 2px }
.wrong { border-left: 4px solid #b3402a; padding-left: .7rem }
"""


def login_page(language: str, *, wrong: bool = False) -> str:
    """The form; `wrong`: the key that was sent opens nothing."""

    def said(key: str) -> str:
        return escape(word(key, language))

    told = f'<p class="wrong" role="alert">{said("login wrong")}</p>' if wrong else ""
    return (
        f'<!doctype html><html lang="{"zh-CN" if language == "zh" else "en"}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>nacre · {said('login')}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>nacre</h1><p>{said('login why')}</p>{told}"
        '<form method="post" action="/ui/login">'
        f'<label for="key">{said("key")}</label>'
        '<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>'
        f'<button type="submit">{said("login")}</button></form></main></body></html>'
    )
