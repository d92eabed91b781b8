//! Any bytes: they are refused, or are exactly what writing the tuple that they are read as gives.
#![no_main]

use atbr::tables::tuple::{Item, Reader, Writer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut reader = Reader::new(data);
    let mut writer = Writer::new();
    loop {
        match reader.item() {
            Err(_) => return,
            Ok(None) => break,
            Ok(Some(item)) => match item {
                Item::Null => writer.null(),
                Item::Bytes(data) => writer.bytes(&data),
                Item::Text(text) => writer.text(&text),
                Item::Int(value) => writer.int(value),
                Item::LongInt {
                    negative,
                    magnitude,
                } => assert!(writer.long_int(negative, &magnitude)),
                Item::Double(value) => writer.double(value),
                Item::Boolean(value) => writer.boolean(value),
                Item::Uuid(value) => writer.uuid(&value),
                Item::Moment(value) => writer.moment(value),
                Item::Open => writer.open(),
                Item::Close => writer.close(),
            },
        }
    }
    assert_eq!(writer.as_slice(), data);
});
