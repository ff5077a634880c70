//! A picture of the ring: each arc a wedge coloured by its primary, the further copies on
//! thinner bands inside, and a legend with everybody's share.
//!
//! A wedge thinner than a few pixels is noise and no picture, so of a ring with many arcs the
//! first [`WEDGES_MAX`] are drawn; they are as good a sample as any, because placement along
//! the ring has no pattern. Shares in the legend are of the whole ring.

use crate::table::{ArcIndex, Table};
use std::fmt::Write as _;

/// Most wedges drawn.
pub const WEDGES_MAX: u32 = 256;

/// Most servers in the legend; further ones are counted in a last line.
pub const LEGEND_MAX: usize = 48;

const CENTRE: f64 = 340.0;
const OUTER: f64 = 300.0;
const PRIMARY_BAND: f64 = 56.0;
const COPY_BAND: f64 = 22.0;
const GAP: f64 = 4.0;
const LEGEND_ROWS: usize = 24;
const LEGEND_LINE: f64 = 25.0;
const LEGEND_X: f64 = 700.0;
const LEGEND_COLUMN: f64 = 330.0;

/// Draws a table as a stand-alone SVG document.
pub fn svg(table: &Table) -> String {
    let shown = table.arcs().min(WEDGES_MAX);
    let nodes = table.shares().nodes;
    let columns = nodes.len().min(LEGEND_MAX).div_ceil(LEGEND_ROWS).max(1);
    let width = LEGEND_X + LEGEND_COLUMN * columns as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} 680\" \
         width=\"{width:.0}\" height=\"680\" font-family=\"Helvetica, Arial, sans-serif\">\n\
         <title>RingFS ring, epoch {}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        table.epoch()
    );
    for copy in 0..usize::from(table.width()) {
        let (outer, thickness) = band(copy);
        let mut start = 0;
        for arc in 1..=shown {
            let owner = |a: u32| table.owners(ArcIndex(a))[copy];
            if arc < shown && owner(arc) == owner(start) {
                continue;
            }
            let colour = colour(usize::from(owner(start)), nodes.len());
            let name = &nodes[usize::from(owner(start))].name;
            let wedge = wedge(outer, outer - thickness, start, arc, shown);
            put(
                &mut out,
                format_args!(
                    "<path d=\"{wedge}\" fill=\"{colour}\" stroke=\"#ffffff\" \
                     stroke-width=\"0.5\"><title>arc {start}, copy {}: {name}</title></path>\n",
                    copy + 1
                ),
            );
            start = arc;
        }
    }
    centre(&mut out, table, shown);
    legend(&mut out, table);
    out.push_str("</svg>\n");
    out
}

/// Outer radius and thickness of the band of a copy, 0 being the primary.
fn band(copy: usize) -> (f64, f64) {
    match copy {
        0 => (OUTER, PRIMARY_BAND),
        n => (OUTER - PRIMARY_BAND - GAP - (n - 1) as f64 * (COPY_BAND + GAP), COPY_BAND),
    }
}

/// The outline of arcs `from..to` of `all` between two radii; a full circle is two halves,
/// since an SVG arc cannot end where it begins.
fn wedge(outer: f64, inner: f64, from: u32, to: u32, all: u32) -> String {
    let at = |radius: f64, arc: f64| {
        let angle = arc / f64::from(all) * std::f64::consts::TAU;
        (CENTRE + radius * angle.sin(), CENTRE - radius * angle.cos())
    };
    let (a, b) = (f64::from(from), f64::from(to));
    let middle = (a + b) / 2.0;
    let [p, q, r] = [a, middle, b].map(|arc| at(outer, arc));
    let [u, v, w] = [b, middle, a].map(|arc| at(inner, arc));
    format!(
        "M{:.2} {:.2}A{outer} {outer} 0 0 1 {:.2} {:.2}A{outer} {outer} 0 0 1 {:.2} {:.2}\
         L{:.2} {:.2}A{inner} {inner} 0 0 0 {:.2} {:.2}A{inner} {inner} 0 0 0 {:.2} {:.2}Z",
        p.0, p.1, q.0, q.1, r.0, r.1, u.0, u.1, v.0, v.1, w.0, w.1
    )
}

fn centre(out: &mut String, table: &Table, shown: u32) {
    let servers = table.members().iter().filter(|m| m.weight > 0).count();
    let lines = [
        (26, "#111827", format!("epoch {}", table.epoch())),
        (15, "#374151", format!("{} arcs, {} copies", table.arcs(), table.width())),
        (15, "#374151", format!("{servers} servers")),
        (12, "#6b7280", "outer band: primary".to_owned()),
        (
            12,
            "#6b7280",
            if shown < table.arcs() {
                format!("drawn: arcs 0 to {}", shown - 1)
            } else {
                "drawn: all arcs".to_owned()
            },
        ),
    ];
    let mut y = CENTRE - 44.0;
    for (size, colour, text) in lines {
        put(
            out,
            format_args!(
                "<text x=\"{CENTRE}\" y=\"{y}\" font-size=\"{size}\" fill=\"{colour}\" \
                 text-anchor=\"middle\">{text}</text>\n"
            ),
        );
        y += 26.0;
    }
}

fn legend(out: &mut String, table: &Table) {
    let nodes = table.shares().nodes;
    let largest = nodes.iter().map(|n| n.fraction).fold(f64::MIN_POSITIVE, f64::max);
    // A short legend stands beside the middle of the ring.
    let rows = nodes.len().min(LEGEND_ROWS);
    let top = 56.0 + LEGEND_LINE * (LEGEND_ROWS - rows) as f64 / 2.0;
    for column in 0..nodes.len().min(LEGEND_MAX).div_ceil(LEGEND_ROWS) {
        let (x, head) = (LEGEND_X + LEGEND_COLUMN * column as f64, top - 22.0);
        put(
            out,
            format_args!(
                "<g font-size=\"12\" fill=\"#6b7280\"><text x=\"{}\" y=\"{head}\">server</text>\
                 <text x=\"{}\" y=\"{head}\" text-anchor=\"end\">copies</text>\
                 <text x=\"{}\" y=\"{head}\" text-anchor=\"end\">primaries</text></g>\n",
                x + 20.0,
                x + 228.0,
                x + 300.0
            ),
        );
    }
    for (i, node) in nodes.iter().take(LEGEND_MAX).enumerate() {
        let x = LEGEND_X + LEGEND_COLUMN * (i / LEGEND_ROWS) as f64;
        let y = top + LEGEND_LINE * (i % LEGEND_ROWS) as f64;
        let colour = colour(i, nodes.len());
        let mut label: String = node.name.as_str().chars().take(18).collect();
        if label.len() < node.name.as_str().len() {
            label.push('…');
        }
        let primaries = f64::from(node.primaries) / f64::from(table.arcs()) * 100.0;
        put(
            out,
            format_args!(
                "<g font-size=\"14\" fill=\"#111827\">\
                 <rect x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"{y}\">{label}</text>\
                 <text x=\"{}\" y=\"{y}\" text-anchor=\"end\">{:.2}%</text>\
                 <text x=\"{}\" y=\"{y}\" text-anchor=\"end\" fill=\"#6b7280\">{primaries:.2}%</text>\
                 <rect x=\"{}\" y=\"{}\" width=\"{:.1}\" height=\"3\" rx=\"1.5\" fill=\"{colour}\"/>\
                 </g>\n",
                y - 11.0,
                x + 20.0,
                x + 228.0,
                node.fraction * 100.0,
                x + 300.0,
                x + 20.0,
                y + 4.0,
                280.0 * node.fraction / largest
            ),
        );
    }
    if nodes.len() > LEGEND_MAX {
        put(
            out,
            format_args!(
                "<text x=\"{LEGEND_X}\" y=\"664\" font-size=\"13\" fill=\"#6b7280\">and {} more</text>\n",
                nodes.len() - LEGEND_MAX
            ),
        );
    }
}

/// Hues a golden angle apart, so that neighbours in the list differ most; lightness in three
/// steps once hues alone get close.
fn colour(index: usize, all: usize) -> String {
    let hue = (index as f64 * 137.508 + 210.0) % 360.0;
    let lightness = if all <= 8 { 52 } else { [46, 60, 38][index % 3] };
    format!("hsl({hue:.0},62%,{lightness}%)")
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes all");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Member, plan};
    use ringfs_base::NodeName;

    fn picture(servers: usize) -> String {
        let members: Vec<Member> =
            (0..servers).map(|i| Member::new(NodeName::new(&format!("n{i}")).unwrap())).collect();
        svg(&plan(None, &members, 3, 1024).unwrap())
    }

    #[test]
    fn tags_are_closed_and_everybody_is_in_the_legend() {
        for servers in [1, 3, 30, 100] {
            let svg = picture(servers);
            for tag in ["svg", "g", "text", "path", "title"] {
                let opened = svg.matches(&format!("<{tag} ")).count()
                    + svg.matches(&format!("<{tag}>")).count();
                assert_eq!(opened, svg.matches(&format!("</{tag}>")).count(), "{tag}");
            }
            assert_eq!(svg.matches("<g font-size=\"14\"").count(), servers.min(LEGEND_MAX));
            assert!(!svg.contains("NaN") && !svg.contains("inf"));
        }
    }

    #[test]
    fn one_server_is_a_whole_ring() {
        assert_eq!(picture(1).matches("<path").count(), 1);
    }
}
