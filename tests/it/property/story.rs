//! A story: a random case. It fixes the mode, the state, the server, and what happens in each round.

use fake_aws::s3::{ConditionalWrites, Fault, ListingDialect, Operation, Reply};
use proptest::prelude::*;

use super::filter::{Filter, escaped};
use super::view::Mode;

/// Awkward in their order or their bytes. They are few, so that edits often meet the same name.
pub(super) const NAMES: [&str; 14] =
    ["a", "a-b", "a.b", "a b", "a+b", "a%2Bb", "a!", "a0", "é", "\u{e000}", "😀", "\"'&<?#=*[\\", "\u{1}\r\n", " ~ "];
pub(super) const SIZES: [usize; 6] = [0, 1, 8, 8, 1000, (5 << 20) + 1];
/// How many of the names one story uses.
pub(super) const NAMES_PER_STORY: usize = 5;
/// Two directories that exist at first, each with a file of the same name and size.
pub(super) const ALIKE: [usize; 2] = [0, 2];

/// A path, as indices into the names of the story.
pub(super) type Names = Vec<usize>;

/// How the path of the source leads to the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Direct,
    /// The source is a link, which can be turned to another release.
    BehindLink,
    /// A directory above the source can be swapped.
    BelowAncestor,
}

/// Where a link leads.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Nothing,
    Itself,
    /// A directory beside the source.
    Outside(usize),
    /// A path in the source; absolute or relative.
    Inside(usize, bool),
}

/// Why no object can hold a file under its new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unpublishable {
    NotUtf8,
    TooLong,
    Unreadable,
}

#[derive(Clone, Debug)]
pub(super) enum Edit {
    /// Creates or overwrites a file, with one of the [`SIZES`].
    Write(Names, usize),
    /// Overwrites a file with content of the same size. Then sets the mtime to what it was, or to an hour ago.
    Rewrite(usize, Option<bool>),
    /// Removes a file, a link or a whole directory.
    Remove(usize),
    Rename(usize, Names),
    /// Swaps the two directories that have equal names and sizes below them.
    SwapAlike,
    Chmod(usize, bool),
    Link(Names, Target),
    /// Replaces a link by one that leads elsewhere.
    Turn(usize, Target),
    HardLink(usize, Names),
    /// Moves a file or directory to a name that cannot be published.
    Hide(usize, Unpublishable),
    /// Takes all permissions away from a file or directory.
    Lock(usize),
    Unlock,
    /// Creates what is no content of the source: `lost+found`, what NFS leaves, a snapshot.
    Leftover(usize),
    /// Moves everything out of the source.
    Empty,
    Refill,
    /// Swaps the source for the other release.
    TurnSource,
    /// Mounts something on a new directory.
    Mount(Names, Option<usize>),
    Unmount(usize),
    Remount(usize),
    /// Mounts something over the source.
    MountOver(Option<usize>),
    UnmountOver,
}

#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// This many uploads fail.
    Puts(Fault, u64),
    /// Every upload of a key with this name fails.
    PutsOf(usize, Fault),
    /// This many requests of multipart uploads fail.
    Parts(Fault, u64),
    /// After this many listings, this many fail.
    Lists(u64, Fault, u64),
    /// This many deletes fail.
    Deletes(Fault, u64),
    /// A writer rewrites a file when the first upload starts.
    ConcurrentRewrite(usize),
    /// The source changes before the request of this number of these operations.
    ConcurrentEdit(Moment, Edit),
    /// The run gets this signal after this many ms.
    Stop(&'static str, u64),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    Listing,
    Upload,
    Delete,
}

/// What runs in a round.
#[derive(Clone, Debug)]
pub(super) enum How {
    Sync,
    /// One run for the keys up to this one, and one for the rest.
    Ranges(Names),
    /// A plan, edits, and the plan applied.
    PlanAndApply(Vec<Edit>),
    /// A run over these files.
    Manifest(Vec<usize>),
    /// A comparison of content, after a sync.
    Verify,
    /// `efs2s3 run`, or a sync where the case does not run the program in datasync mode.
    Run(Execution),
}

/// An execution of the DataSync task.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is independent of the others")]
pub(super) struct Execution {
    /// Whether another client starts it before the run.
    pub(super) is_of_others: bool,
    /// Whether that client lets it delete.
    pub(super) others_remove: bool,
    /// Whether it deletes although the run forbids it.
    pub(super) ignores_override: bool,
    pub(super) end: End,
    pub(super) writes_half: bool,
    /// What happens to the source after the execution has read it, and before it writes.
    pub(super) during: Vec<Edit>,
    pub(super) run: Policy,
}

/// How an execution ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Success,
    Error,
    /// An operator cancels it, before it has written anything.
    Cancelled,
    /// It does not end.
    Stuck,
}

/// The options of a run with DataSync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    DataSyncFirst,
    /// DataSync deletes.
    DeletesOfDataSync,
    /// The run starts after an execution of another client has ended.
    DirectOnly,
}

#[derive(Clone, Debug)]
pub(super) struct Round {
    pub(super) edits: Vec<Edit>,
    pub(super) troubles: Vec<Trouble>,
    pub(super) how: How,
    pub(super) rules: Rules,
    /// Whether another run syncs another source to a destination inside this one first, with the same state.
    pub(super) inner: bool,
}

/// The options of a run.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub(super) struct Rules {
    pub(super) delete: bool,
    pub(super) allow_empty: bool,
    pub(super) ignore_errors: bool,
    pub(super) max_delete: &'static str,
    /// Whether the run leaves every file of this case for a later run.
    pub(super) min_age: bool,
    /// Whether the run forgets the mounts that are missing, and deletes what was below them.
    pub(super) allow_missing_mounts: bool,
    pub(super) filter: Filters,
}

/// Filters, as indices into the names of the story.
#[derive(Clone, Debug, Default)]
pub(super) struct Filters {
    include: Option<(usize, usize)>,
    exclude: Option<(usize, usize)>,
}

impl Filters {
    /// The filters in DataSync's form.
    pub(super) fn of(&self, names: &[&str]) -> Filter {
        let name = |index: usize| escaped(names[index % names.len()]);
        let pattern = |(form, index): (usize, usize), forms: &[&str]| {
            forms[form % forms.len()].replace('N', &name(index)).replace('M', &name(index + 1))
        };
        Filter {
            include: self.include.map(|pick| pattern(pick, &["/N", "/N*", "/N|/M", "/N/M|/M/N", "*"])),
            exclude: self.exclude.map(|pick| pattern(pick, &["/N", "*N", "/N*", "*/N", "/N/M", "/N/*|/M"])),
        }
    }
}

impl Rules {
    /// Those of the last run: nothing is left out.
    pub(super) fn last() -> Self {
        Self {
            delete: true,
            allow_empty: false,
            ignore_errors: false,
            max_delete: "100%",
            min_age: false,
            allow_missing_mounts: false,
            filter: Filters::default(),
        }
    }
}

#[derive(Clone)]
pub(super) struct Story {
    pub(super) mode: Mode,
    pub(super) with_state: bool,
    pub(super) layout: Layout,
    pub(super) first_name: usize,
    pub(super) seeds: Vec<(Names, usize, Option<usize>)>,
    pub(super) conditional_writes: ConditionalWrites,
    pub(super) listing: ListingDialect,
    pub(super) kms: bool,
    pub(super) page_size: usize,
    pub(super) rounds: Vec<Round>,
}

impl std::fmt::Debug for Story {
    /// A line for each round.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { mode, with_state, layout, first_name, conditional_writes, kms, page_size, .. } = self;
        let server = format!("{conditional_writes:?}, {:?}, kms {kms}, pages of {page_size}", self.listing);
        writeln!(f, "{mode:?}, state {with_state}, {layout:?}, names from {first_name}, {server}")?;
        let lines = self.rounds.iter().map(|round| format!("{round:?}")).collect::<Vec<_>>().join("\n");
        let objects = format!("{:?}", self.seeds);
        write!(f, "objects: {objects}\n{lines}")
    }
}

/// What the program does not handle yet: edits, and other parts of a story.
const OFF: &[&str] = &[];

/// Whether the stories use this kind of edit.
pub(super) fn is_on(edit: &Edit) -> bool {
    let name = format!("{edit:?}");
    !OFF.iter().any(|off| name.starts_with(off))
}

/// Whether an edit replaces the source as a whole. A run works with the directory that it opened at its start.
pub(super) fn replaces_source(edit: &Edit) -> bool {
    matches!(edit, Edit::TurnSource | Edit::MountOver(_) | Edit::UnmountOver)
}

fn flag(name: &'static str, weight: f64) -> impl Strategy<Value = bool> {
    let is_on = !OFF.contains(&name);
    prop::bool::weighted(weight).prop_map(move |flag| flag && is_on)
}

// --- random stories ---

fn names() -> impl Strategy<Value = Names> {
    prop::collection::vec(0..NAMES_PER_STORY, 1..=3)
}

fn pick() -> impl Strategy<Value = usize> {
    any::<u16>().prop_map(usize::from)
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        2 => Just(Target::Nothing),
        1 => Just(Target::Itself),
        3 => (0..3_usize).prop_map(Target::Outside),
        4 => (pick(), any::<bool>()).prop_map(|(pick, absolute)| Target::Inside(pick, absolute)),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    let size = prop_oneof![20 => 0..SIZES.len() - 1, 1 => Just(SIZES.len() - 1)];
    let how = prop::sample::select(vec![Unpublishable::NotUtf8, Unpublishable::TooLong, Unpublishable::Unreadable]);
    let common = prop_oneof![
        6 => (names(), size).prop_map(|(names, size)| Edit::Write(names, size)),
        4 => (pick(), any::<Option<bool>>()).prop_map(|(pick, back)| Edit::Rewrite(pick, back)),
        2 => pick().prop_map(Edit::Remove),
        3 => (pick(), names()).prop_map(|(pick, names)| Edit::Rename(pick, names)),
        3 => Just(Edit::SwapAlike),
        1 => (pick(), any::<bool>()).prop_map(|(pick, tight)| Edit::Chmod(pick, tight)),
        1 => (pick(), names()).prop_map(|(pick, names)| Edit::HardLink(pick, names)),
    ];
    let links = prop_oneof![
        3 => (names(), target()).prop_map(|(names, target)| Edit::Link(names, target)),
        3 => (pick(), target()).prop_map(|(pick, target)| Edit::Turn(pick, target)),
    ];
    let rare = prop_oneof![
        3 => (pick(), how).prop_map(|(pick, how)| Edit::Hide(pick, how)),
        2 => pick().prop_map(Edit::Lock),
        2 => Just(Edit::Unlock),
        1 => (0..3_usize).prop_map(Edit::Leftover),
        1 => Just(Edit::Empty),
        2 => Just(Edit::Refill),
        4 => Just(Edit::TurnSource),
        3 => (names(), prop::option::of(0..3_usize)).prop_map(|(names, number)| Edit::Mount(names, number)),
        3 => pick().prop_map(Edit::Unmount),
        2 => pick().prop_map(Edit::Remount),
        1 => prop::option::of(0..3_usize).prop_map(Edit::MountOver),
        2 => Just(Edit::UnmountOver),
    ];
    prop_oneof![10 => common, 3 => links, 4 => rare]
}

fn fault() -> impl Strategy<Value = Fault> {
    let login_page = || Fault::custom(|_| Some(Reply { status: 200, body: "<html>Log in".into(), ..Reply::default() }));
    prop_oneof![
        10 => prop::sample::select(vec![
            Fault::status(500, "InternalError"),
            Fault::status(503, "SlowDown"),
            Fault::status(403, "AccessDenied"),
            Fault::status(400, "InvalidRequest"),
            Fault::ErrorInside200("InternalError"),
            Fault::ResetBefore,
            Fault::ResetAfter,
            Fault::TruncatedBody,
            Fault::CorruptBody,
            Fault::WrongEtag,
        ]),
        1 => flag("login", 1.0).prop_map(move |on| if on { login_page() } else { Fault::ResetBefore }),
    ]
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let backwards = Fault::page(|mut keys, more| {
        keys.reverse();
        (keys, more)
    });
    let listing = prop_oneof![3 => fault(), 1 => Just(backwards)];
    let moment = prop::sample::select(vec![Moment::Listing, Moment::Upload, Moment::Delete, Moment::Delete]);
    prop_oneof![
        4 => (fault(), 1..5_u64).prop_map(|(fault, times)| Trouble::Puts(fault, times)),
        3 => (0..NAMES_PER_STORY, fault()).prop_map(|(name, fault)| Trouble::PutsOf(name, fault)),
        1 => (fault(), 1..5_u64).prop_map(|(fault, times)| Trouble::Parts(fault, times)),
        2 => (0..3_u64, listing, 1..6_u64).prop_map(|(skip, fault, times)| Trouble::Lists(skip, fault, times)),
        2 => (fault(), 1..5_u64).prop_map(|(fault, times)| Trouble::Deletes(fault, times)),
        1 => pick().prop_map(Trouble::ConcurrentRewrite),
        3 => (moment, edit()).prop_map(|(moment, edit)| Trouble::ConcurrentEdit(moment, edit)),
        1 => (prop::sample::select(vec!["-TERM", "-KILL"]), 0..4000_u64)
            .prop_map(|(signal, after)| Trouble::Stop(signal, after)),
    ]
}

fn rules() -> impl Strategy<Value = Rules> {
    let filter = || prop::option::weighted(0.15, (0..6_usize, 0..NAMES_PER_STORY));
    (
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.3).prop_map(|allow| allow || OFF.contains(&"empty")),
        prop::bool::weighted(0.2),
        prop::sample::select(vec!["100%", "100%", "100%", "100%", "2", "40%"])
            .prop_map(|most| if OFF.contains(&"share") && most == "40%" { "2" } else { most }),
        flag("min_age", 0.08),
        prop::bool::weighted(0.08),
        (filter(), filter()).prop_map(|(include, exclude)| Filters { include, exclude }),
    )
        .prop_map(|(delete, allow_empty, ignore_errors, max_delete, min_age, allow_missing_mounts, filter)| {
            Rules { delete, allow_empty, ignore_errors, max_delete, min_age, allow_missing_mounts, filter }
        })
}

fn execution() -> impl Strategy<Value = Execution> {
    let end =
        prop_oneof![4 => Just(End::Success), 3 => Just(End::Error), 1 => Just(End::Cancelled), 1 => Just(End::Stuck)];
    let run = prop_oneof![4 => Just(Policy::DataSyncFirst), 1 => Just(if OFF.contains(&"deletes") { Policy::DataSyncFirst } else { Policy::DeletesOfDataSync }), 2 => Just(if OFF.contains(&"direct") { Policy::DataSyncFirst } else { Policy::DirectOnly })];
    (
        (prop::bool::weighted(0.4), any::<bool>(), prop::bool::weighted(0.1), any::<bool>()),
        end,
        prop::collection::vec(edit(), 0..4),
        run,
    )
        .prop_map(|((is_of_others, others_remove, ignores_override, writes_half), end, during, run)| Execution {
            is_of_others: is_of_others || run == Policy::DirectOnly,
            others_remove,
            ignores_override,
            // An execution that never ends cannot be over, and what a success wrote is not suspect.
            end: if run == Policy::DirectOnly && matches!(end, End::Stuck | End::Success) { End::Error } else { end },
            // A success is complete by what DataSync read.
            writes_half: writes_half && end != End::Success,
            during,
            run,
        })
}

/// What runs in a round; `weight` is how often it is `run`, of 20.
fn how(weight: u32) -> impl Strategy<Value = How> {
    let weight = if OFF.contains(&"run") { 0 } else { weight };
    prop_oneof![
        weight => execution().prop_map(How::Run),
        12 => Just(How::Sync),
        2 => names().prop_map(How::Ranges),
        2 => prop::collection::vec(edit(), 0..3).prop_map(How::PlanAndApply),
        1 => prop::collection::vec(pick(), 1..4).prop_map(How::Manifest),
        2 => Just(How::Verify),
    ]
}

fn round(runs: u32) -> impl Strategy<Value = Round> {
    let (edits, troubles) = (prop::collection::vec(edit(), 0..8), prop::collection::vec(trouble(), 0..3));
    (edits, troubles, how(runs), rules(), flag("inner", 0.1)).prop_map(|(edits, troubles, how, rules, inner)| Round {
        edits,
        troubles,
        how,
        rules,
        inner,
    })
}

/// A story; `runs` is how often a round is `efs2s3 run`, of 20.
pub(super) fn story(runs: u32) -> impl Strategy<Value = Story> {
    let modes =
        if runs == 0 { vec![Mode::Plain, Mode::DataSync] } else { vec![Mode::Plain, Mode::DataSync, Mode::DataSync] };
    let conditional = vec![
        ConditionalWrites::On,
        ConditionalWrites::On,
        ConditionalWrites::Ignored,
        ConditionalWrites::NotImplemented,
    ];
    let layouts = vec![Layout::Direct, Layout::Direct, Layout::BehindLink, Layout::BelowAncestor];
    let server = (
        prop::sample::select(conditional),
        prop::sample::select(vec![ListingDialect::S3, ListingDialect::Percent]),
        prop::bool::weighted(0.2),
        prop::sample::select(vec![1, 3, 1000]),
    );
    (
        (prop::sample::select(modes), any::<bool>(), prop::sample::select(layouts)),
        0..NAMES.len(),
        prop::collection::vec((names(), 0..SIZES.len() - 1, prop::option::of(1..9_usize)), 0..6),
        server,
        prop::collection::vec(edit(), 4..16),
        prop::collection::vec(round(runs), 1..4),
    )
        .prop_map(|((mode, with_state, layout), first_name, seeds, server, edits, mut rounds)| {
            let alike = ALIKE.map(|name| Edit::Write(vec![name, 1], 2));
            rounds[0].edits.splice(0..0, alike.into_iter().chain(edits));
            let (conditional_writes, listing, kms, page_size) = server;
            Story { mode, with_state, layout, first_name, seeds, conditional_writes, listing, kms, page_size, rounds }
        })
}

impl Moment {
    pub(super) fn operations(self) -> Vec<Operation> {
        match self {
            Self::Listing => vec![Operation::ListObjectsV2],
            Self::Upload => vec![Operation::PutObject],
            Self::Delete => vec![Operation::DeleteObject, Operation::DeleteObjects],
        }
    }
}
