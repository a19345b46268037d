//! Examples at the end of each command's help.
//!
//! Each is a whole command line, and below it what it does.

pub(super) const SHOAL: &str = "\
Examples:
  shoal share photos
      Share a folder and print its link
  shoal fetch shoal:S…
      Download what a link names
  shoal status --watch
      Watch who downloads from me
  shoal unshare photos
      Stop sharing
  shoal daemon --detach
      Keep sharing when the terminal is closed";

pub(super) const DAEMON: &str = "\
Examples:
  shoal daemon --detach
      Start the daemon in the background
  shoal daemon --up 20mbit --down off
      Start it with limits that hold for this run
  shoal daemon --external /ip4/203.0.113.7/tcp/4101
      Behind a router that forwards port 4101";

pub(super) const STOP: &str = "\
Examples:
  shoal stop
      Stop the daemon; transfers keep their progress
  shoal stop --timeout 10s --kill
      Kill it if it has not ended after 10 s";

pub(super) const STATUS: &str = "\
Examples:
  shoal status
      How the daemon is doing
  shoal status --watch
      Watch who downloads from me, and how far they are
  shoal --json status | jq .shares
      The shares, for a script";

pub(super) const LOGS: &str = "\
Examples:
  shoal logs -n 20
      The last 20 lines
  shoal logs --follow
      Watch what the daemon does";

pub(super) const SHARE: &str = "\
Examples:
  shoal share photos
      Share a folder and print its link
  shoal share a.iso b.iso --name images
      Share several paths as one folder
  shoal share report.pdf --once
      Stop sharing when one peer has all of it
  shoal share photos --expires 2days
      Stop sharing after two days";

pub(super) const FETCH: &str = "\
Examples:
  shoal fetch shoal:S…
      Download into this folder, under the name in the link
  shoal fetch shoal:S… -o ~/Downloads/
      Download into another folder
  shoal fetch shoal:S… -o big.iso
      Download under another name
  shoal fetch shoal:S… --only '**/*.jpg'
      Download some of the files
  shoal fetch shoal:S… --background
      Leave it to the daemon";

pub(super) const TRANSFERS: &str = "\
Examples:
  shoal transfers
      How far downloads are, and where they land
  shoal --json transfers
      The same for a script";

pub(super) const PAUSE: &str = "\
Examples:
  shoal pause photos
      Pause a download by its name
  shoal pause 3 7
      Pause two downloads by their numbers
  shoal pause all
      Pause all of them";

pub(super) const RESUME: &str = "\
Examples:
  shoal resume photos
      Continue a download
  shoal resume all
      Continue all that are paused or have failed";

pub(super) const CANCEL: &str = "\
Examples:
  shoal cancel photos
      Cancel a download and delete its partial files
  shoal cancel all
      Cancel all that are not done";

pub(super) const LS: &str = "\
Examples:
  shoal ls
      What I share
  shoal ls photos
      The files of a share
  shoal ls shoal:S…
      The files behind a link";

pub(super) const SHOW: &str = "\
Examples:
  shoal show photos
      One share and its link";

pub(super) const LINK: &str = "\
Examples:
  shoal link photos
      The link to pass on
  shoal link photos --qr
      The same as a QR code";

pub(super) const RENAME: &str = "\
Examples:
  shoal rename photos 'Summer 2026'
      Give a share another name";

pub(super) const UNSHARE: &str = "\
Examples:
  shoal unshare photos
      Stop sharing by name
  shoal unshare ~/photos notes.txt
      Stop sharing two paths
  shoal unshare bafkr4ifpcne3
      Stop sharing by the beginning of a CID";

pub(super) const FIND: &str = "\
Examples:
  shoal find shoal:S…
      Who has it, how much of it, and how far away";

pub(super) const PEERS: &str = "\
Examples:
  shoal peers
      Who is connected, nearest first";

pub(super) const CONNECT: &str = "\
Examples:
  shoal connect /ip4/192.0.2.7/tcp/4101/p2p/12D3Koo…
      Connect to a peer by its address, which `shoal id` prints there";

pub(super) const LIMITS: &str = "\
Examples:
  shoal limits
      The limits, and how much is used
  shoal limits --up 5MB/s
      Limit uploads from now on
  shoal limits --up off
      Take the limit away
  shoal limits --transfer 7 --down 1MB/s
      Slow one download down";

pub(super) const REPLICAS: &str = "\
Examples:
  shoal replicas stats
      How much is kept, and for how many
  shoal replicas off
      Delete all copies and keep none";

pub(super) const ID: &str = "\
Examples:
  shoal id
      What others connect to";

pub(super) const TESTNET: &str = "\
Examples:
  shoal testnet demo
      See on five nodes what Shoal does
  shoal testnet up --nodes 4
      Start four nodes
  shoal testnet down
      End them and remove their homes";

pub(super) const SERVICE: &str = "\
Examples:
  shoal service install
      Start the daemon now and at every login
  shoal service uninstall
      Stop that; the home stays";

pub(super) const VERIFY: &str = "\
Examples:
  shoal verify
      Read all that is shared and compare it
  shoal verify photos
      Only this share";

pub(super) const GC: &str = "\
Examples:
  shoal gc --dry-run
      What would be deleted
  shoal gc
      Delete it";

pub(super) const DB: &str = "\
Examples:
  shoal db check
      Read the whole database
  shoal db check --repair
      Keep what can be read, in a new database";

pub(super) const CONFIG: &str = "\
Examples:
  shoal config
      All keys, with their values and meanings
  shoal config set limits.up 20mbit
      Change a key
  shoal config check
      Check the file before a start";
