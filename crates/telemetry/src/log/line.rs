//! From an event to a line.
//!
//! Plain: `<time>\t<level>\t<scope>[:<span>{k=v …}…]\t<message>\t<k=v …>`, texts in double quotes, addresses and numbers bare.
//! JSON: one object per line with `level`, `time`, `scope`, `message`, the fields by their dotted names, and one object per span.

use super::writer::LineSender;
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::{fmt, fmt::Write};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// Cut off the scope in plain lines, as upstream does with its own crate's name.
const OWN_SCOPE: &str = "ztunnel::";

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns separated by tabs.
    Plain,
    /// One JSON object per line.
    Json,
}

/// The layer that turns events into lines.
#[derive(Debug)]
pub(super) struct Lines {
    format: Format,
    to: LineSender,
}

impl Lines {
    pub(super) fn new(format: Format, to: LineSender) -> Self {
        Self { format, to }
    }
}

/// Fields of an event or a span, in the order in which they were written.
#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, Text)>);

/// A field's value, as it will be written.
#[derive(Debug)]
enum Text {
    /// Numbers, addresses: written bare.
    Bare(String),
    /// Text: written in quotes.
    Quoted(String),
    /// Written as it is in JSON too.
    Value(Value),
}

impl Text {
    fn json(&self) -> Value {
        match self {
            Self::Bare(text) | Self::Quoted(text) => Value::from(text.as_str()),
            Self::Value(value) => value.clone(),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bare(text) => f.write_str(text),
            Self::Quoted(text) => write!(f, "{text:?}"),
            Self::Value(value) => value.fmt(f),
        }
    }
}

impl Fields {
    fn put(&mut self, field: &Field, text: Text) {
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, held)) => *held = text,
            None => self.0.push((field.name(), text)),
        }
    }

    fn message(&self) -> &str {
        self.0.iter().find(|(name, _)| *name == "message").map_or("", |(_, text)| match text {
            Text::Bare(text) | Text::Quoted(text) => text,
            Text::Value(_) => "",
        })
    }

    fn others(&self) -> impl Iterator<Item = &(&'static str, Text)> {
        self.0.iter().filter(|(name, _)| *name != "message")
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Text::Bare(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Text::Quoted(value.to_owned()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Text::Value(value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Text::Value(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Text::Value(value.into()));
    }
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (time, metadata) = (Timestamp::now(), event.metadata());
        let spans = context.event_scope(event).map(|scope| scope.from_root());
        let line = match self.format {
            Format::Plain => {
                let mut path = String::new();
                for span in spans.into_iter().flatten() {
                    if let Some(fields) = span.extensions().get::<Fields>() {
                        plain_span(&mut path, span.name(), fields);
                    }
                }
                plain(time, *metadata.level(), metadata.target(), &path, &fields)
            }
            Format::Json => {
                let mut objects = Map::new();
                for span in spans.into_iter().flatten() {
                    if let Some(fields) = span.extensions().get::<Fields>() {
                        objects.insert(span.name().to_owned(), object(fields));
                    }
                }
                json(time, *metadata.level(), metadata.target(), objects, &fields)
            }
        };
        self.to.send(line);
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn plain_span(path: &mut String, name: &str, fields: &Fields) {
    path.push(':');
    path.push_str(name);
    if !fields.0.is_empty() {
        let inner: Vec<_> = fields.0.iter().map(|(name, text)| format!("{name}={text}")).collect();
        path.push_str(&format!("{{{}}}", inner.join(" ")));
    }
}

fn plain(time: Timestamp, level: Level, target: &str, path: &str, fields: &Fields) -> String {
    let scope = target.strip_prefix(OWN_SCOPE).unwrap_or(target);
    let mut line = format!("{time:.6}\t{}\t{scope}{path}\t{}", level_name(level), one_line(fields.message()));
    for (index, (name, text)) in fields.others().enumerate() {
        let before = if index == 0 { '\t' } else { ' ' };
        // Writing to a text cannot fail.
        let _ = write!(line, "{before}{name}={}", one_line(&text.to_string()));
    }
    line.push('\n');
    line
}

/// A line break inside a value must not make a second line that looks like another event.
fn one_line(text: &str) -> String {
    text.replace('\n', "\\n")
}

fn json(time: Timestamp, level: Level, target: &str, spans: Map<String, Value>, fields: &Fields) -> String {
    let mut line = Map::new();
    line.insert("level".to_owned(), level_name(level).into());
    line.insert("time".to_owned(), format!("{time:.6}").into());
    line.insert("scope".to_owned(), target.into());
    line.insert("message".to_owned(), fields.message().into());
    line.extend(fields.others().map(|(name, text)| ((*name).to_owned(), text.json())));
    line.extend(spans);
    format!("{}\n", Value::Object(line))
}

fn object(fields: &Fields) -> Value {
    fields.0.iter().map(|(name, text)| ((*name).to_owned(), text.json())).collect::<Map<_, _>>().into()
}

/// Runs `work` with a log of its own and returns what it wrote, with the time of each plain line cut off.
#[cfg(test)]
pub(crate) fn captured(format: Format, directives: &str, work: impl FnOnce()) -> Vec<String> {
    use std::{io, sync::Arc};
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Buffer(Arc<parking_lot::Mutex<Vec<u8>>>);
    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let buffer = Buffer::default();
    let (lines, flush) = super::writer::start(buffer.clone()).unwrap();
    let (_levels, filter) = super::Levels::new(directives.parse().unwrap());
    let subscriber = tracing_subscriber::registry().with(filter).with(Lines::new(format, lines));
    tracing::subscriber::with_default(subscriber, work);
    drop(flush);
    let text = String::from_utf8(buffer.0.lock().clone()).unwrap();
    let cut = |line: &str| match format {
        Format::Plain => line.split_once('\t').unwrap().1.to_owned(),
        Format::Json => line.to_owned(),
    };
    text.lines().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_lines() {
        let lines = captured(Format::Plain, "info,quiet=off", || {
            tracing::info!(target: "ztunnel::proxy", addr = %"10.0.0.1:80", name = "web", count = 3, "started");
            tracing::debug!("not shown");
            tracing::error!(target: "quiet", "not shown");
            let span = tracing::info_span!("workload", uid = "a/b", port = tracing::field::Empty);
            span.record("port", 80);
            span.in_scope(|| tracing::warn!(target: "hbone", "two\nlines"));
        });
        assert_eq!(
            lines,
            [
                "info\tproxy\tstarted\taddr=10.0.0.1:80 name=\"web\" count=3",
                "warn\thbone:workload{uid=\"a/b\" port=80}\ttwo\\nlines",
            ]
        );
    }

    #[test]
    fn json_lines() {
        let lines = captured(Format::Json, "info", || {
            let span = tracing::info_span!("workload", uid = "a/b");
            span.in_scope(
                || tracing::info!(target: "ztunnel::proxy", { src.addr = %"10.0.0.1:80", count = 3 }, "started"),
            );
        });
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        let keys: Vec<_> = line.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["level", "time", "scope", "message", "src.addr", "count", "workload"]);
        assert_eq!(line["scope"], "ztunnel::proxy");
        assert_eq!(line["src.addr"], "10.0.0.1:80");
        assert_eq!(line["count"], 3);
        assert_eq!(line["workload"]["uid"], "a/b");
    }
}
