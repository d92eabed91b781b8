//! The encoding against its specification, against the order of tuples, and against any bytes.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::{Item, MAX_DEPTH, Reader, Writer, end_of_prefix};

/// A tuple's element as a tree: the slow counterpart of writer calls and reader items.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Null,
    Bytes(Vec<u8>),
    Text(String),
    Tuple(Vec<Node>),
    Int(i128),
    Double(f64),
    Boolean(bool),
    Uuid([u8; 16]),
    Moment(i64),
}

fn rank(node: &Node) -> u8 {
    match node {
        Node::Null => 0,
        Node::Bytes(_) => 1,
        Node::Text(_) => 2,
        Node::Tuple(_) => 3,
        Node::Int(_) => 4,
        Node::Double(_) => 5,
        Node::Boolean(_) => 6,
        Node::Uuid(_) => 7,
        Node::Moment(_) => 8,
    }
}

fn compare(a: &[Node], b: &[Node]) -> Ordering {
    let one = |(a, b): (&Node, &Node)| match (a, b) {
        (Node::Bytes(a), Node::Bytes(b)) => a.cmp(b),
        (Node::Text(a), Node::Text(b)) => a.cmp(b),
        (Node::Tuple(a), Node::Tuple(b)) => compare(a, b),
        (Node::Int(a), Node::Int(b)) => a.cmp(b),
        (Node::Double(a), Node::Double(b)) => a.total_cmp(b),
        (Node::Boolean(a), Node::Boolean(b)) => a.cmp(b),
        (Node::Uuid(a), Node::Uuid(b)) => a.cmp(b),
        (Node::Moment(a), Node::Moment(b)) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    };
    let first = a.iter().zip(b).map(one).find(|o| o.is_ne());
    first.unwrap_or(a.len().cmp(&b.len()))
}

fn write(writer: &mut Writer, nodes: &[Node]) {
    for node in nodes {
        match node {
            Node::Null => writer.null(),
            Node::Bytes(data) => writer.bytes(data),
            Node::Text(text) => writer.text(text),
            Node::Tuple(nodes) => {
                writer.open();
                write(writer, nodes);
                writer.close();
            }
            Node::Int(value) => match i64::try_from(*value) {
                Ok(value) => writer.int(value),
                Err(_) => {
                    let magnitude = value.unsigned_abs().to_be_bytes();
                    let zeros = magnitude.iter().take_while(|&&byte| byte == 0).count();
                    assert!(writer.long_int(*value < 0, &magnitude[zeros..]));
                }
            },
            Node::Double(value) => writer.double(*value),
            Node::Boolean(value) => writer.boolean(*value),
            Node::Uuid(value) => writer.uuid(value),
            Node::Moment(value) => writer.moment(*value),
        }
    }
}

fn encode(nodes: &[Node]) -> Vec<u8> {
    let mut writer = Writer::default();
    write(&mut writer, nodes);
    writer.as_slice().to_vec()
}

fn decode(data: &[u8]) -> crate::Result<Vec<Node>> {
    let mut reader = Reader::new(data);
    let mut open = vec![vec![]];
    while let Some(item) = reader.item()? {
        let node = match item {
            Item::Null => Node::Null,
            Item::Bytes(data) => Node::Bytes(data.into_owned()),
            Item::Text(text) => Node::Text(text.into_owned()),
            Item::Int(value) => Node::Int(value.into()),
            Item::LongInt {
                negative,
                magnitude,
            } => {
                if magnitude.len() > 15 {
                    // Beyond what the tree holds; its bytes have been read all the same.
                    Node::Bytes(magnitude.into_owned())
                } else {
                    let value = magnitude
                        .iter()
                        .fold(0, |sum, &byte| sum << 8 | i128::from(byte));
                    Node::Int(if negative { -value } else { value })
                }
            }
            Item::Double(value) => Node::Double(value),
            Item::Boolean(value) => Node::Boolean(value),
            Item::Uuid(value) => Node::Uuid(value),
            Item::Moment(value) => Node::Moment(value),
            Item::Open => {
                open.push(vec![]);
                continue;
            }
            Item::Close => Node::Tuple(open.pop().unwrap()),
        };
        open.last_mut().unwrap().push(node);
    }
    Ok(open.pop().unwrap())
}

fn node() -> impl Strategy<Value = Node> {
    let byte = prop_oneof![Just(0_u8), Just(1), Just(0xff), any::<u8>()];
    let edge = prop_oneof![
        any::<i64>().prop_map(i128::from),
        (0..100_u32, -2..3_i128).prop_map(|(bits, by)| (1_i128 << bits) + by),
        (0..100_u32, -2..3_i128).prop_map(|(bits, by)| -(1_i128 << bits) + by),
    ];
    let leaf = prop_oneof![
        Just(Node::Null),
        prop::collection::vec(byte, 0..6).prop_map(Node::Bytes),
        "[\0\u{1}aä€\u{10ffff}]{0,4}".prop_map(Node::Text),
        edge.prop_map(Node::Int),
        any::<f64>()
            .prop_filter("not NaN", |value| !value.is_nan())
            .prop_map(Node::Double),
        prop::sample::select(vec![0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, 5e-324])
            .prop_map(Node::Double),
        any::<bool>().prop_map(Node::Boolean),
        any::<[u8; 16]>().prop_map(Node::Uuid),
        any::<i64>().prop_map(Node::Moment),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop::collection::vec(inner, 0..4).prop_map(Node::Tuple)
    })
}

fn tuple() -> impl Strategy<Value = Vec<Node>> {
    prop::collection::vec(node(), 0..4)
}

proptest! {
    #[test]
    fn what_is_written_is_read(nodes in tuple()) {
        let back = decode(&encode(&nodes)).unwrap();
        prop_assert_eq!(compare(&back, &nodes), Ordering::Equal);
        prop_assert_eq!(format!("{back:?}"), format!("{nodes:?}"));
    }

    #[test]
    fn the_order_of_bytes_is_the_order_of_tuples(a in tuple(), b in tuple()) {
        prop_assert_eq!(encode(&a).cmp(&encode(&b)), compare(&a, &b));
    }

    #[test]
    fn the_keys_of_a_prefix_are_one_range(prefix in tuple(), rest in tuple(), other in tuple()) {
        let (low, high) = (encode(&prefix), end_of_prefix(&encode(&prefix)));
        let longer = encode(&[&prefix[..], &rest[..]].concat());
        prop_assert!(low <= longer && longer < high);
        let extends = other.len() >= prefix.len()
            && compare(&other[..prefix.len()], &prefix) == Ordering::Equal;
        let other = encode(&other);
        prop_assert_eq!(low <= other && other < high, extends);
    }

    #[test]
    fn any_bytes_are_refused_or_are_the_one_form_of_a_tuple(
        data in prop::collection::vec(prop_oneof![0..0x42_u8, Just(0xff), any::<u8>()], 0..24)
    ) {
        let nodes = decode(&data).unwrap_or_default();
        // Bytes also stand for integers too long for the tree.
        if decode(&data).is_ok() && !format!("{nodes:?}").contains("Bytes") {
            prop_assert_eq!(encode(&nodes), data);
        }
    }

    #[test]
    fn a_flipped_byte_never_panics(nodes in tuple(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut data = encode(&nodes);
        if !data.is_empty() {
            let at = at.index(data.len());
            data[at] = byte;
            let _ = decode(&data);
            let _ = decode(&data[..at]);
        }
    }
}

#[test]
fn integers_beyond_64_bits_have_the_published_form() {
    let mut writer = Writer::default();
    assert!(writer.long_int(false, &[0xff; 8]));
    assert_eq!(
        writer.as_slice(),
        b"\x1d\x08\xff\xff\xff\xff\xff\xff\xff\xff"
    );
    writer.clear();
    assert!(writer.long_int(true, &[1, 0, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(
        writer.as_slice(),
        b"\x0b\xf6\xfe\xff\xff\xff\xff\xff\xff\xff\xff"
    );
    writer.clear();
    assert!(writer.long_int(false, &[9; 255]));
    assert!(!writer.long_int(false, &[9; 256]));
}

#[test]
fn depth_is_bounded_in_reading() {
    assert!(decode(&[vec![5; MAX_DEPTH], vec![0; MAX_DEPTH]].concat()).is_ok());
    assert!(decode(&[vec![5; MAX_DEPTH + 1], vec![0; MAX_DEPTH + 1]].concat()).is_err());
    assert!(decode(&vec![5; 10_000_000]).is_err());
}
