"""How the page looks: colours of paper and ink, of night in dark mode."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
MONO = ["ui-monospace", "Consolas", "monospace"]

# name → light, dark. The same names are CSS variables in style.css.
INK = {
    "paper": ("#f6f0e4", "#14161f"),
    "card": ("#fffcf5", "#1c1f2b"),
    "ink": ("#2a2833", "#eee7da"),
    "muted": ("#665f6b", "#a9a3b3"),
    "line": ("#e3d9c5", "#343849"),
    "field": ("#faf6ec", "#181b26"),
    "hill": ("#f3ebda", "#232736"),
    "accent": ("#a8421f", "#f2a65a"),
    "accent_strong": ("#8d3517", "#ffbd7a"),
    "on_accent": ("#ffffff", "#24160a"),
}


def css() -> str:
    """The style sheet, with the colours put in front."""
    sheet = "\n".join(_read(name) for name in ("style.css", "player.css"))
    for place, selector in enumerate((":root", ".dark")):
        colours = ";".join(f"--{name.replace('_', '-')}:{pair[place]}" for name, pair in INK.items())
        sheet = f"{selector}{{{colours}}}\n{sheet}"
    return sheet


def script() -> str:
    """The page's script: one function, called once the page is there."""
    return f"() => {{ ({_read('page.js').strip()})(); ({_read('player.js').strip()})(); }}"


def _read(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def theme() -> gr.themes.Base:
    """Gradio's plain theme in our colours; its fonts are the machine's own, nothing is fetched."""
    uses = {
        "body_background_fill": "paper",
        "body_text_color": "ink",
        "body_text_color_subdued": "muted",
        "background_fill_primary": "card",
        "background_fill_secondary": "paper",
        "block_background_fill": "card",
        "block_border_color": "line",
        "block_label_text_color": "muted",
        "block_title_text_color": "ink",
        "block_info_text_color": "muted",
        "border_color_primary": "line",
        "border_color_accent": "accent",
        "input_background_fill": "field",
        "input_border_color": "line",
        "input_border_color_focus": "accent",
        "input_placeholder_color": "muted",
        "slider_color": "accent",
        "checkbox_background_color": "field",
        "checkbox_background_color_selected": "accent",
        "checkbox_border_color": "muted",
        "checkbox_border_color_selected": "accent",
        "checkbox_border_color_focus": "accent",
        "button_primary_background_fill": "accent",
        "button_primary_background_fill_hover": "accent_strong",
        "button_primary_border_color": "accent",
        "button_primary_text_color": "on_accent",
        "button_secondary_background_fill": "card",
        "button_secondary_background_fill_hover": "paper",
        "button_secondary_border_color": "line",
        "button_secondary_text_color": "ink",
        "link_text_color": "accent",
        "panel_background_fill": "card",
    }
    shades = {}
    for variable, name in uses.items():
        shades[variable], shades[f"{variable}_dark"] = INK[name]
    base = gr.themes.Base(font=SANS, font_mono=MONO, radius_size="lg", spacing_size="md", text_size="md")
    return base.set(
        **shades,
        color_accent="var(--accent)",
        block_border_width="1px",
        block_shadow="none",
        button_large_radius="*radius_md",
    )
