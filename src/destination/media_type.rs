//! The media types of files by their extensions.
//!
//! `media_type/mime.types` is the table of mime-db, which collects the types of IANA, Apache and nginx and is kept up to
//! date. (The crate `mime_guess` has an older table, in which many formats are `application/octet-stream`.) The types in
//! [`USUAL`] come before it.

use std::collections::HashMap;
use std::sync::LazyLock;

/// The table of mime-db.
const MIME_DB: &str = include_str!("media_type/mime.types");

/// Types that mime-db lacks, and extensions for which it names a type that is not registered or rarely meant. Sorted.
const USUAL: &str = "\
application/cbor                        cbor
application/geopackage+sqlite3          gpkg
application/gzip                        tgz
application/json                        har topojson
application/postscript                  epsf epsi
application/vnd.amazon.mobi8-ebook      azw3
application/vnd.apache.arrow.file       arrow
application/vnd.apache.parquet          parquet
application/vnd.comicbook+zip           cbz
application/vnd.comicbook-rar           cbr
application/vnd.debian.binary-package   deb udeb
application/vnd.ms-excel                xlb xlk xll
application/vnd.ms-project              mpp
application/vnd.pmtiles                 pmtiles
application/vnd.sqlite3                 sqlite sqlite3
application/x-fictionbook+xml           fb2
application/x-hdf5                      h5 hdf5
application/x-indesign                  indd
application/x-itunes-ipa                ipa
application/x-lz4                       lz4
application/x-msaccess                  accdb
application/x-protobuf                  pbf
application/x-ruby                      rb
application/xhtml+xml                   xhtm
application/xml                         sitemap
application/yaml                        yaml yml
application/zstd                        zst
audio/ac3                               ac3
audio/flac                              flac
audio/mp4                               cmfa m4r
image/avif                              avifs
image/jpeg                              jfif
image/vnd.radiance                      hdr
image/x-canon-cr2                       cr2
image/x-canon-cr3                       cr3
image/x-canon-crw                       crw
image/x-fuji-raf                        raf
image/x-icon                            cur
image/x-nikon-nef                       nef
image/x-olympus-orf                     orf
image/x-panasonic-rw2                   rw2
image/x-pentax-pef                      pef
image/x-sony-arw                        arw
image/x-xcf                             xcf
text/javascript                         es jsm
text/plain                              cfg cmd cnf cs hpp hxx idl inc lst md5 ps1 reg sha1 sha256 sha512 tsx vb
text/vbscript                           vbs
text/vcard                              vcf
text/x-bibtex                           bib
text/x-diff                             diff patch
text/x-python                           py
text/x-rst                              rst
text/x-tex                              cls sty
video/mp4                               cmfv
video/mpeg                              mp2v mpa mpv2
video/quicktime                         mqv
";

/// The type of each extension; of two lines for one extension, the later one counts.
static TYPES: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| [MIME_DB, USUAL].into_iter().flat_map(types).collect());

/// Returns the media type of files with this extension, which is in lower case and has no dot.
pub(super) fn of_extension(extension: &str) -> Option<&'static str> {
    TYPES.get(extension).copied()
}

/// The pairs of extension and type in a table.
fn types(table: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).flat_map(|(media_type, extensions)| {
        extensions.split_whitespace().map(move |extension| (extension, media_type))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 200 most common extensions of web sites.
    const COMMON: &str = "
        html htm xhtml shtml js mjs cjs css map json jsonld json5 xml xsl xslt rss atom txt md markdown yaml yml
        toml ini conf cfg log csv tsv webmanifest manifest appcache wasm svg svgz png jpg jpeg gif webp avif apng
        ico cur bmp tif tiff heic heif jxl jp2 psd ai eps ps dng cr2 woff woff2 ttf otf eot ttc mp4 m4v webm ogv mov
        avi wmv flv mkv mpg mpeg 3gp 3g2 ts m2ts m3u8 m3u mpd m4s vtt srt ttml mp3 m4a m4b aac ogg oga opus flac wav
        wma aif aiff pdf doc docx xls xlsx xlsm ppt pptx ppsx odt ods odp rtf tex epub mobi azw3 djvu pages numbers
        key vsd mpp zip gz tgz tar bz2 xz zst lz4 7z rar br jar war apk ipa exe msi dmg pkg deb rpm iso cab bin dat
        img crx xpi torrent swf ics vcf eml msg kml kmz gpx geojson topojson pbf mvt pmtiles gltf glb usdz obj stl
        fbx 3mf dwg dxf step sql sqlite db parquet arrow ipynb py rb php asp jsp sh ps1 bat c h cpp java diff patch
        pem crt cer der p12 md5 bak tmp";

    #[test]
    fn of_the_200_most_common_extensions_these_have_no_type_of_their_own() {
        let common: Vec<&str> = COMMON.split_whitespace().collect();
        assert_eq!(common.len(), 200);
        let is_generic =
            |extension: &&str| of_extension(extension).is_none_or(|found| found.ends_with("/octet-stream"));
        let generic: Vec<&str> = common.into_iter().filter(is_generic).collect();
        assert_eq!(generic, ["br", "pkg", "bin", "dat", "img", "db", "asp", "jsp", "bak", "tmp"]);
    }

    #[test]
    fn types_are_those_that_browsers_and_players_expect() {
        for (extension, expected) in [
            ("ts", "video/mp2t"),
            ("m3u8", "application/vnd.apple.mpegurl"),
            ("mpd", "application/dash+xml"),
            ("psd", "image/vnd.adobe.photoshop"),
            ("zst", "application/zstd"),
            ("cjs", "application/node"),
            ("usdz", "model/vnd.usdz+zip"),
            ("pages", "application/vnd.apple.pages"),
            ("numbers", "application/vnd.apple.numbers"),
            ("key", "application/vnd.apple.keynote"),
            ("js", "text/javascript"),
            ("mjs", "text/javascript"),
            ("wasm", "application/wasm"),
            ("webmanifest", "application/manifest+json"),
            ("mp4", "video/mp4"),
            ("m4a", "audio/mp4"),
            ("flac", "audio/flac"),
            ("wav", "audio/wav"),
            ("ico", "image/vnd.microsoft.icon"),
            ("avif", "image/avif"),
            ("glb", "model/gltf-binary"),
            ("yaml", "application/yaml"),
            ("vcf", "text/vcard"),
            ("xlsm", "application/vnd.ms-excel.sheet.macroenabled.12"),
        ] {
            assert_eq!(of_extension(extension), Some(expected), "{extension}");
        }
    }

    #[test]
    fn each_extension_is_in_a_table_once_and_each_usual_type_differs_from_mime_db() {
        for table in [MIME_DB, USUAL] {
            let mut seen = HashMap::new();
            for (extension, media_type) in types(table) {
                assert_eq!(seen.insert(extension, media_type), None, "{extension}");
                assert!(media_type.contains('/') && extension == extension.to_lowercase(), "{extension} {media_type}");
            }
        }
        let mime_db: HashMap<&str, &str> = types(MIME_DB).collect();
        for (extension, media_type) in types(USUAL) {
            assert_ne!(mime_db.get(extension), Some(&media_type), "{extension}");
        }
        let lines: Vec<&str> = USUAL.lines().collect();
        assert!(lines.is_sorted(), "the usual types are sorted");
    }
}
