// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Device code as the vendors' compilers take it, into C++.
//!
//! Four things are no C++: launches in triple chevrons, variables in the block's memory, arrays of dynamic size there, and where a kernel
//! begins. They are rewritten in place; every line keeps its number, so that a compiler's message names the line of the text as it lies in
//! the bundle. Everything else that a dialect has beyond C++ is a macro or a function of its headers.

/// A token that is no comment.
#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    text: &'a str,
    at: usize,
}

impl Token<'_> {
    fn end(&self) -> usize {
        self.at + self.text.len()
    }
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    }
}

/// A piece of the text that is replaced.
struct Edit {
    from: usize,
    to: usize,
    by: String,
}

/// Rewrites one file; `name` is what compilers call it.
pub fn rewrite(name: &str, text: &str) -> String {
    rewritten(name, text, 1, false)
}

/// Rewrites a text from that line of its file on, to lie in a namespace: kernels then have no names of C.
pub(super) fn rewrite_in_namespace(name: &str, text: &str, first: usize) -> String {
    rewritten(name, text, first, true)
}

fn rewritten(name: &str, text: &str, first: usize, inside: bool) -> String {
    let (tokens, comments) = lex(text);
    let mut edits = Vec::new();
    let mut i = 0;
    while let Some(t) = tokens.get(i) {
        match t.text {
            "<<<" => edits.extend(launch(text, &tokens, i)),
            "__shared__" => edits.extend(variables(text, &tokens, i)),
            "__global__" => {
                let linkage = i.checked_sub(2).and_then(|k| tokens.get(k..i)).filter(|_| inside);
                if let Some([word, of]) = linkage
                    && (word.text, of.text) == ("extern", "\"C\"")
                {
                    edits.push(Edit { from: word.at, to: of.end(), by: String::new() });
                }
                edits.extend(kernel(&tokens, &comments, i));
            }
            _ => {}
        }
        i += 1;
    }
    edits.sort_by_key(|e| e.from);
    let mut out = format!("#line {first} {name:?}\n");
    let mut done = 0;
    for e in &edits {
        if e.from < done {
            continue; // It lies in another one, which no text that we know of does.
        }
        out.push_str(&text[done..e.from]);
        out.push_str(&e.by);
        let lines = |s: &str| s.matches('\n').count();
        let kept = lines(&e.by);
        out.extend(std::iter::repeat_n('\n', lines(&text[e.from..e.to]).saturating_sub(kept)));
        done = e.to;
    }
    out.push_str(&text[done..]);
    out
}

/// Tokens, and comments apart.
fn lex(text: &str) -> (Vec<Token<'_>>, Vec<Token<'_>>) {
    let b = text.as_bytes();
    let (mut tokens, mut comments) = (Vec::new(), Vec::new());
    let mut i = 0;
    while let Some(&c) = b.get(i) {
        let rest = &b[i..];
        let word = |c: &u8| c.is_ascii_alphanumeric() || *c == b'_';
        let end = if c.is_ascii_whitespace() || !c.is_ascii() {
            i += 1;
            continue;
        } else if rest.starts_with(b"//") {
            let end = rest.iter().position(|c| *c == b'\n').map_or(b.len(), |n| i + n);
            comments.push(Token { text: text.get(i..end).unwrap_or(""), at: i });
            i = end;
            continue;
        } else if rest.starts_with(b"/*") {
            let end = rest.get(2..).and_then(|r| r.windows(2).position(|w| w == b"*/")).map_or(b.len(), |n| i + n + 4);
            comments.push(Token { text: text.get(i..end).unwrap_or(""), at: i });
            i = end;
            continue;
        } else if rest.starts_with(b"R\"") {
            raw_string(rest).map_or(b.len(), |n| i + n)
        } else if c == b'"' || c == b'\'' {
            quoted(rest, c).map_or(b.len(), |n| i + n)
        } else if c.is_ascii_alphabetic() || c == b'_' {
            i + rest.iter().take_while(|c| word(c)).count()
        } else if c.is_ascii_digit() {
            // 1'000 and 1.5e-3f are one token each; a sign stays apart, which no rule here minds.
            i + rest.iter().take_while(|c| word(c) || **c == b'.' || **c == b'\'').count()
        } else if rest.starts_with(b"<<<") || rest.starts_with(b">>>") {
            i + 3
        } else if rest.starts_with(b"::") || rest.starts_with(b"->") {
            i + 2
        } else {
            i + 1
        };
        tokens.push(Token { text: text.get(i..end).unwrap_or(""), at: i });
        i = end;
    }
    (tokens, comments)
}

/// Length of a literal that begins here, with its quotes.
fn quoted(b: &[u8], quote: u8) -> Option<usize> {
    let mut i = 1;
    loop {
        match *b.get(i)? {
            b'\\' => i += 2,
            c if c == quote || c == b'\n' => return Some(i + 1),
            _ => i += 1,
        }
    }
}

fn raw_string(b: &[u8]) -> Option<usize> {
    let open = b.iter().position(|c| *c == b'(')?;
    let close: Vec<u8> = [b")", b.get(2..open)?, b"\""].concat();
    b.windows(close.len()).position(|w| w == close).map(|n| n + close.len())
}

/// The token that closes the bracket at `i`.
fn close(tokens: &[Token<'_>], i: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (k, t) in tokens.iter().enumerate().skip(i) {
        match t.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(k);
                }
            }
            _ => {}
        }
    }
    None
}

/// The token that opens the bracket which ends at `i`.
fn open(tokens: &[Token<'_>], i: usize) -> Option<usize> {
    let mut depth = 0i32;
    for k in (0..=i).rev() {
        match tokens[k].text {
            ")" | "]" | "}" | ">" => depth += 1,
            ">>>" => depth += 3,
            "(" | "[" | "{" | "<" => depth -= 1,
            _ => {}
        }
        if depth <= 0 {
            return (depth == 0).then_some(k);
        }
    }
    None
}

/// `kernel<<<grid, block>>>(arguments)`
fn launch(text: &str, tokens: &[Token<'_>], i: usize) -> Option<Edit> {
    // The kernel: a name of any number of parts with arguments of its template, or something in brackets.
    let mut first = i.checked_sub(1)?;
    loop {
        if matches!(tokens[first].text, ">" | ")" | "]") {
            first = open(tokens, first)?;
            if tokens[first].text == "(" && !first.checked_sub(1).is_some_and(|k| tokens[k].is_word()) {
                break;
            }
            first = first.checked_sub(1)?;
        }
        match first.checked_sub(1).map(|k| tokens[k].text) {
            Some("::") => match first.checked_sub(2).map(|k| tokens[k]) {
                Some(t) if t.is_word() || t.text == ">" => first -= 2,
                _ => {
                    first -= 1;
                    break;
                }
            },
            _ => break,
        }
    }
    let kernel = text.get(tokens[first].at..tokens[i - 1].end())?;
    let mut depth = 0usize;
    let mut shape_end = None;
    for (k, t) in tokens.iter().enumerate().skip(i + 1) {
        match t.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.checked_sub(1)?,
            ">>>" if depth == 0 => {
                shape_end = Some(k);
                break;
            }
            ";" => return None,
            _ => {}
        }
    }
    let shape_end = shape_end?;
    let from = shape_end + 1;
    if tokens.get(from)?.text != "(" {
        return None;
    }
    let to = close(tokens, from)?;
    let shape = text.get(tokens[i].end()..tokens[shape_end].at)?;
    let arguments = text.get(tokens[from].end()..tokens[to].at)?;
    let comma = if to == from + 1 { "" } else { ", " };
    let name = format!("{kernel:?}");
    let by = format!("::simt::launch(::simt::Config({shape}), {name}, [&](auto... simt_a) {{ {kernel}(simt_a...); }}{comma}{arguments})");
    Some(Edit { from: tokens[first].at, to: tokens[to].end(), by })
}

/// `__shared__ float a[16][17], b;` and `extern __shared__ float c[];`
fn variables(text: &str, tokens: &[Token<'_>], i: usize) -> Option<Edit> {
    // Back to where the declaration begins: what says how a variable is aligned may stand before.
    let aligns = |t: &Token<'_>| matches!(t.text, "alignas" | "__align__" | "__attribute__");
    let mut first = i;
    while let Some(k) = first.checked_sub(1) {
        match tokens[k].text {
            ")" => match open(tokens, k).and_then(|o| o.checked_sub(1)).filter(|o| aligns(&tokens[*o])) {
                Some(o) => first = o,
                None => break,
            },
            ";" | "{" | "}" | ":" | ">" => break,
            _ => first = k,
        }
    }
    let mut last = i;
    while tokens.get(last)?.text != ";" {
        match tokens[last].text {
            "{" => return None, // A type or a value of its own: `__shared__` is then `static`.
            "(" | "[" => last = close(tokens, last)? + 1,
            _ => last += 1,
        }
    }
    // What belongs to the type, and what says how it is aligned.
    let (mut specifiers, mut align, mut dynamic) = (Vec::new(), "1".to_string(), false);
    let mut k = first;
    while k < last {
        let t = tokens[k];
        match t.text {
            "__shared__" | "static" | "\\" => {}
            "extern" => dynamic = true,
            "__align__" | "alignas" | "__attribute__" if tokens.get(k + 1).is_some_and(|t| t.text == "(") => {
                let end = close(tokens, k + 1)?;
                let inside = text.get(tokens[k + 1].end()..tokens[end].at)?;
                if t.text != "__attribute__" {
                    align = inside.to_string();
                } else if let Some(n) =
                    inside.split_once("aligned").and_then(|(_, n)| n.split_once('(')).and_then(|(_, n)| n.split_once(')'))
                {
                    align = n.0.to_string();
                }
                k = end;
            }
            _ => specifiers.push(k),
        }
        k += 1;
    }
    // The first variable's name is the word before the first bracket, comma or end that is in no argument of a template.
    let mut angles = 0i32;
    let mut at = specifiers.len();
    for (n, k) in specifiers.iter().enumerate() {
        match tokens[*k].text {
            "<" => angles += 1,
            ">" => angles -= 1,
            "[" | "," | "=" if angles <= 0 => {
                at = n;
                break;
            }
            _ => {}
        }
    }
    let name_at = at.checked_sub(1)?;
    let words = |of: &[usize]| of.iter().map(|k| tokens[*k].text).collect::<Vec<_>>().join(" ");
    let of_type = words(specifiers.get(..name_at)?);
    let mut rest = &specifiers[name_at..];
    let mut by = String::new();
    while let Some((name, more)) = rest.split_first() {
        let name = tokens[*name];
        if !name.is_word() {
            return None;
        }
        let dims_end = more.iter().position(|k| matches!(tokens[*k].text, "," | "=")).unwrap_or(more.len());
        let dims = words(&more[..dims_end]);
        if more.get(dims_end).is_some_and(|k| tokens[*k].text == "=") {
            return None;
        }
        if !by.is_empty() {
            by.push(' ');
        }
        let n = name.text;
        if dynamic {
            by.push_str(&format!("auto &{n} = ::simt::dynamic_array<{of_type}>();"));
        } else {
            by.push_str(&format!("static ::simt::Shared<{of_type} {dims}> simt_{n}({n:?}, {align}); auto &{n} = simt_{n}.here();"));
        }
        rest = more.get(dims_end + 1..).unwrap_or(&[]);
    }
    Some(Edit { from: tokens[first].at, to: tokens[last].end(), by })
}

/// The first statement of a kernel's body.
fn kernel(tokens: &[Token<'_>], comments: &[Token<'_>], i: usize) -> Option<Edit> {
    let mut bound = "";
    let mut bound_text = String::new();
    let mut k = i + 1;
    let (nodes, at) = loop {
        let t = tokens.get(k)?;
        if matches!(t.text, ";" | "{" | "}" | "=") {
            return None;
        }
        if t.is_word() && tokens.get(k + 1).is_some_and(|n| n.text == "(") {
            let end = close(tokens, k + 1)?;
            match t.text {
                "__launch_bounds__" => {
                    bound_text = tokens[k + 2..end].iter().map(|t| t.text).collect::<Vec<_>>().join(" ");
                    bound = ", ";
                    k = end;
                }
                word if word.starts_with("__") && tokens.get(end + 1).is_none_or(|t| t.text != "{") => k = end,
                "alignas" | "noexcept" => k = end,
                _ => {
                    let body = tokens.get(end + 1).filter(|t| t.text == "{")?;
                    let before = (0..i).rev().find(|k| matches!(tokens[*k].text, ";" | "}")).map_or(0, |k| tokens[k].at);
                    let nodes: Vec<&str> = comments
                        .iter()
                        .filter(|c| c.at > before && c.at < tokens[i].at)
                        .filter_map(|c| c.text.strip_prefix("//")?.trim().strip_prefix("node:"))
                        .map(str::trim)
                        .collect();
                    break (nodes.join(", "), body.end());
                }
            }
        }
        k += 1;
    };
    let by = format!(
        " static constexpr ::simt::Kernel simt_kernel = {{__func__, {}}}; ::simt::begin(simt_kernel{bound}{bound_text});",
        quote(&nodes)
    );
    Some(Edit { from: at, to: at, by })
}

/// A literal of C++.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // Three octal digits end by themselves.
            c if (c as u32) < 32 => out.push_str(&format!("\\{:03o}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        let all = rewrite("k.cu", text);
        let (line, rest) = all.split_once('\n').unwrap();
        assert_eq!(line, "#line 1 \"k.cu\"");
        assert_eq!(text.matches('\n').count(), rest.matches('\n').count(), "{rest}");
        rest.to_string()
    }

    #[test]
    fn launches() {
        assert_eq!(
            of("k<<<g, 256>>>(x, y);"),
            "::simt::launch(::simt::Config(g, 256), \"k\", [&](auto... simt_a) { k(simt_a...); }, x, y);"
        );
        assert_eq!(
            of("  a::k<float, 4> <<<f(g), b, n >> 1,\n s>>>();"),
            "  ::simt::launch(::simt::Config(f(g), b, n >> 1,\n s), \"a::k<float, 4>\", [&](auto... simt_a) { a::k<float, 4>(simt_a...); });"
        );
        // Neither a shift nor what is in a comment or a text.
        for text in ["a << b;", "// k<<<1, 2>>>(x)\n", "\"k<<<1,2>>>(x)\"", "'<'"] {
            assert_eq!(of(text), text);
        }
    }

    #[test]
    fn variables_of_a_block() {
        assert_eq!(
            of("__shared__ float a[16][T + 1], b;"),
            "static ::simt::Shared<float [ 16 ] [ T + 1 ]> simt_a(\"a\", 1); auto &a = simt_a.here(); \
             static ::simt::Shared<float > simt_b(\"b\", 1); auto &b = simt_b.here();"
        );
        assert_eq!(
            of("{ __shared__ typename R<int, 4>::Room t; }"),
            "{ static ::simt::Shared<typename R < int , 4 > :: Room > simt_t(\"t\", 1); auto &t = simt_t.here(); }"
        );
        assert_eq!(of("extern __shared__ __align__(16) unsigned char s[];"), "auto &s = ::simt::dynamic_array<unsigned char>();");
        assert_eq!(
            of("alignas(8) __shared__\n volatile int s[4];"),
            "static ::simt::Shared<volatile int [ 4 ]> simt_s(\"s\", 8); auto &s = simt_s.here();\n"
        );
    }

    #[test]
    fn kernels_of_namespaces() {
        let text = "extern \"C\" int f();\nextern \"C\" __global__ void k() { }";
        let out = rewrite_in_namespace("k.cu", text, 7);
        assert!(out.starts_with("#line 7 \"k.cu\"\nextern \"C\" int f();\n __global__ void k() { static"), "{out}");
    }

    #[test]
    fn kernels() {
        let text = "// kernel k\n// node: /a/\"b\"\n// node: /c\nextern \"C\" __global__ void __launch_bounds__(64, 2) k(float *x) {\n}\n__global__ void f();";
        let out = of(text);
        assert!(out.contains("k(float *x) { static constexpr ::simt::Kernel simt_kernel = {__func__, \"/a/\\\"b\\\", /c\"}; ::simt::begin(simt_kernel, 64 , 2);"), "{out}");
        assert!(out.ends_with("__global__ void f();"));
        assert!(
            of("template <int N> __global__ void k(int (&x)[N]) { }")
                .contains("{ static constexpr ::simt::Kernel simt_kernel = {__func__, \"\"}; ::simt::begin(simt_kernel); }")
        );
    }

    #[test]
    fn nothing_that_is_cut_off_is_fatal() {
        let text =
            "// node: a\n__global__ void __launch_bounds__(8) k(T *x) { __shared__ float a[2]; R\"x(\")x\"; k<<<1, (2)>>>(x); '\\'' }";
        for n in 0..text.len() {
            let _ = rewrite("k", &text[..n]);
            let _ = rewrite("k", &text[n..]);
        }
    }
}
