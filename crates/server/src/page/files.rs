//! Which files the page is made of.

/// A file of the folder `web`, by its path there.
macro_rules! file {
    ($path:literal) => {
        (
            $path,
            include_bytes!(concat!("../../../../web/", $path)).as_slice(),
        )
    };
}

/// The files of the page: paths and bytes.
pub(super) const FILES: &[(&str, &[u8])] = &[
    file!("css/base.css"),
    file!("css/composer.css"),
    file!("css/layout.css"),
    file!("css/panel.css"),
    file!("css/prose.css"),
    file!("css/thread.css"),
    file!("css/tokens.css"),
    file!("icon.svg"),
    file!("index.html"),
    file!("js/app.js"),
    file!("js/chat/answer.js"),
    file!("js/chat/generation.js"),
    file!("js/chat/request.js"),
    file!("js/chat/server.js"),
    file!("js/chat/tree.js"),
    file!("js/main.js"),
    file!("js/markdown/blocks.js"),
    file!("js/markdown/code.js"),
    file!("js/markdown/colours.js"),
    file!("js/markdown/dom.js"),
    file!("js/markdown/inline.js"),
    file!("js/markdown/links.js"),
    file!("js/markdown/live.js"),
    file!("js/markdown/math-symbols.js"),
    file!("js/markdown/math.js"),
    file!("js/markdown/table.js"),
    file!("js/net/api.js"),
    file!("js/net/failure.js"),
    file!("js/net/prometheus.js"),
    file!("js/net/sse.js"),
    file!("js/store/conversations.js"),
    file!("js/store/settings.js"),
    file!("js/ui/assistant.js"),
    file!("js/ui/bar.js"),
    file!("js/ui/branches.js"),
    file!("js/ui/button.js"),
    file!("js/ui/call.js"),
    file!("js/ui/composer.js"),
    file!("js/ui/copy.js"),
    file!("js/ui/figures.js"),
    file!("js/ui/growing.js"),
    file!("js/ui/h.js"),
    file!("js/ui/icons.js"),
    file!("js/ui/images.js"),
    file!("js/ui/keys.js"),
    file!("js/ui/meter.js"),
    file!("js/ui/notices.js"),
    file!("js/ui/panel.js"),
    file!("js/ui/select.js"),
    file!("js/ui/server-view.js"),
    file!("js/ui/settings-view.js"),
    file!("js/ui/sidebar.js"),
    file!("js/ui/sparkline.js"),
    file!("js/ui/status.js"),
    file!("js/ui/theme.js"),
    file!("js/ui/thread.js"),
    file!("js/ui/tool.js"),
    file!("js/ui/transfer.js"),
    file!("js/ui/user.js"),
    file!("js/ui/welcome.js"),
];

/// The content type of a file by its name.
pub(super) fn kind_of(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
