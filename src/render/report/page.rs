//! The report as one page: no network, no script, light and dark, fit to be printed.

use std::fmt::Write;

use super::story::{Mood, Row, Story};
use super::{throughput, timeline};
use crate::event::Level;
use crate::render::text::{is_unsafe, lines};
use crate::render::view::Finding;
use crate::render::words;
use crate::units::counted;

/// `text` for HTML and SVG, in content and in quoted attributes: no markup and no control
/// character of it survives.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter if is_unsafe(letter) => safe.extend(letter.escape_default()),
            // Not characters; browsers show a box or nothing.
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            letter => safe.push(letter),
        }
    }
    safe
}

/// Several lines as they are.
fn block(text: &str) -> String {
    lines(text).map(|line| escaped(&line)).collect::<Vec<_>>().join("<br>")
}

pub(super) fn page(story: &Story) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n",
        escaped(&story.headline),
        include_str!("page.css")
    );
    head(&mut page, story);
    failures(&mut page, story);
    next(&mut page, story);
    problems(&mut page, story);
    findings(&mut page, story);
    time(&mut page, story);
    steps(&mut page, story);
    verified(&mut page, story);
    speed(&mut page, story);
    notes(&mut page, story);
    environment(&mut page, story);
    page.push_str("</main>\n<footer>Written by transhume from the events of the run.</footer>\n</body>\n</html>\n");
    page
}

fn head(page: &mut String, story: &Story) {
    let (mood, sign) = match story.mood {
        Mood::Good => ("good", "✓"),
        Mood::Mixed => ("mixed", "!"),
        Mood::Bad => ("bad", "✗"),
    };
    let result = story.figures.first().map_or("", |(_, value)| value);
    let _ = write!(
        page,
        "<header>\n<span class=\"mood {mood}\">{sign} {}</span>\n<h1>{}</h1>\n<p class=\"lead\">{}</p>\n",
        escaped(result),
        escaped(&story.headline),
        escaped(&story.lead)
    );
    page.push_str("<dl class=\"figures\">\n");
    for (label, value) in story.figures.iter().skip(1) {
        let _ = writeln!(page, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(label), escaped(value));
    }
    page.push_str("</dl>\n</header>\n");
}

fn section(page: &mut String, title: &str, body: &str) {
    if !body.is_empty() {
        let _ = write!(page, "<section>\n<h2>{}</h2>\n{body}</section>\n", escaped(title));
    }
}

fn failures(page: &mut String, story: &Story) {
    let list = story.failures.iter().map(|(step, error)| {
        format!("<h3 class=\"ill\">{}</h3>\n<pre>{}</pre>\n", escaped(step), block(error))
    });
    section(page, "What went wrong", &list.collect::<String>());
}

fn next(page: &mut String, story: &Story) {
    if story.next.is_empty() {
        return;
    }
    page.push_str("<section class=\"next\">\n<h2>What to do next</h2>\n<ol>\n");
    for text in &story.next {
        let _ = writeln!(page, "<li>{}</li>", block(text));
    }
    page.push_str("</ol>\n</section>\n");
}

fn said(kind: &str, subject: &str, text: &str, remedy: Option<&str>) -> String {
    let remedy = remedy
        .map_or(String::new(), |remedy| format!("<span class=\"remedy\">{}</span>", block(remedy)));
    format!(
        "<li><span class=\"kind\">{kind}{}</span>: {}{remedy}</li>\n",
        escaped(subject),
        block(text)
    )
}

fn problems(page: &mut String, story: &Story) {
    let problems = &story.view.problems;
    if problems.total == 0 {
        return;
    }
    let mut body = "<ul class=\"said\">\n".to_owned();
    for problem in &problems.kept {
        body.push_str(&said("", &problem.subject, &problem.text, problem.remedy.as_deref()));
    }
    body.push_str("</ul>\n");
    if problems.left_out() > 0 {
        let _ = writeln!(body, "<p>And {} more.</p>", problems.left_out());
    }
    section(page, &counted(problems.total as u64, "problem"), &body);
}

fn findings(page: &mut String, story: &Story) {
    let list = |findings: &[&Finding]| -> String {
        let lines = findings.iter().map(|finding| {
            let level = words::level(finding.level);
            let kind = format!("<span class=\"{level}\">{level}</span> · ");
            said(&kind, &finding.subject, &finding.text, finding.remedy.as_deref())
        });
        format!("<ul class=\"said\">\n{}</ul>\n", lines.collect::<String>())
    };
    let (well, open): (Vec<&Finding>, Vec<&Finding>) =
        story.view.findings.kept.iter().partition(|finding| finding.level == Level::Ok);
    let mut body = String::new();
    if !open.is_empty() {
        body.push_str(&list(&open));
    }
    if !well.is_empty() {
        let count = well.len();
        let _ = write!(
            body,
            "<details>\n<summary>{count} in order</summary>\n{}</details>\n",
            list(&well)
        );
    }
    section(page, "What the check found", &body);
}

fn time(page: &mut String, story: &Story) {
    if story.rows.iter().all(|row| row.bars.is_empty()) {
        return;
    }
    let windows = timeline::windows(story);
    let mut body = String::new();
    for window in &windows {
        if windows.len() > 1 {
            let _ = writeln!(body, "<h3>{}</h3>", escaped(&window.title));
        }
        let _ = write!(body, "<figure>\n{}</figure>\n", timeline::svg(story, window));
    }
    section(page, "Timeline", &body);
}

fn steps(page: &mut String, story: &Story) {
    if story.rows.is_empty() {
        return;
    }
    let mut body = "<table>\n<thead><tr><th class=\"number\" scope=\"col\">#</th>\
                    <th scope=\"col\">Step</th><th scope=\"col\">Outcome</th>\
                    <th class=\"number\" scope=\"col\">Began</th>\
                    <th class=\"number\" scope=\"col\">Took</th></tr></thead>\n<tbody>\n"
        .to_owned();
    for row in &story.rows {
        let number = row.number.map_or(String::new(), |number| number.to_string());
        let _ = writeln!(
            body,
            "<tr><td class=\"number\">{number}</td><td>{}{}</td><td class=\"{}\">{}</td>\
             <td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
            escaped(&row.title),
            why(row),
            class(row),
            row.outcome,
            escaped(&row.began),
            took(row)
        );
    }
    body.push_str("</tbody>\n</table>\n");
    section(page, "Steps", &body);
}

/// What it took, and what had been expected.
fn took(row: &Row) -> String {
    match row.predicted.is_empty() {
        true => escaped(&row.took),
        false => format!(
            "{}<br><span class=\"predicted\">predicted: {}</span>",
            escaped(&row.took),
            escaped(&row.predicted)
        ),
    }
}

fn why(row: &Row) -> String {
    if row.detail.is_empty() || matches!(row.outcome, "done" | "already true") {
        String::new()
    } else if row.bad {
        format!("<pre>{}</pre>", block(&row.detail))
    } else {
        format!("<span class=\"why\">{}</span>", block(&row.detail))
    }
}

fn class(row: &Row) -> &'static str {
    match row.outcome {
        _ if row.bad => "ill",
        "done" | "already true" => "well",
        _ => "off",
    }
}

fn verified(page: &mut String, story: &Story) {
    let seen: String = story
        .verified()
        .map(|row| format!("<dt>{}</dt><dd>{}</dd>\n", escaped(&row.title), block(&row.detail)))
        .collect();
    if !seen.is_empty() {
        let body = format!(
            "<p>Nothing is called done on the word of what did it: this is what was seen \
             afterwards, by another path.</p>\n<dl class=\"seen\">\n{seen}</dl>\n"
        );
        section(page, "What was verified", &body);
    }
}

fn speed(page: &mut String, story: &Story) {
    let mut body = String::new();
    for (number, series) in story.series.iter().enumerate() {
        let summary = escaped(&series.summary(&story.clock));
        let curve = if throughput::is_worth_drawing(series) {
            throughput::svg(series, number, &story.clock)
        } else {
            String::new()
        };
        let _ = write!(body, "<figure>\n<figcaption>{summary}</figcaption>\n{curve}</figure>\n");
    }
    section(page, "Throughput", &body);
}

fn notes(page: &mut String, story: &Story) {
    let rows: String = story
        .notes
        .iter()
        .map(|(time, note)| format!("<dt>{}</dt><dd>{}</dd>\n", escaped(time), block(note)))
        .collect();
    if !rows.is_empty() {
        section(page, "Notes", &format!("<dl class=\"seen\">\n{rows}</dl>\n"));
    }
}

fn environment(page: &mut String, story: &Story) {
    let rows: String = story
        .environment
        .iter()
        .map(|(label, value)| format!("<dt>{}</dt><dd>{}</dd>\n", escaped(label), block(value)))
        .collect();
    section(page, "Environment", &format!("<dl class=\"seen\">\n{rows}</dl>\n"));
}
