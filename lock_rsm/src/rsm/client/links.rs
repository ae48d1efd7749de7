//! The replicas a client knows, its connections to them, and who it takes for the master.

use super::super::types::View;
use rpc::{Client, ClientOptions, NotifyFn, Proc};
use std::collections::BTreeMap;

pub(super) struct Links {
    /// The addresses given first, then those learned.
    addresses: Vec<String>,
    options: ClientOptions,
    clients: BTreeMap<String, Client>,
    pushes: Vec<(Proc, NotifyFn)>,
    /// The latest view heard of.
    view: u64,
    master: Option<String>,
    /// A master that could not be asked, and the view it led: what slower replicas still say of it is no news.
    shunned: Option<(String, u64)>,
    /// Whom to ask next while no master is known, and how many were asked in vain since the last pause.
    next: usize,
    in_vain: usize,
}

impl Links {
    pub(super) fn new(addresses: Vec<String>, options: ClientOptions) -> Links {
        let mut links = Links {
            addresses: Vec::new(),
            options,
            clients: BTreeMap::new(),
            pushes: Vec::new(),
            view: 0,
            master: None,
            shunned: None,
            next: 0,
            in_vain: 0,
        };
        addresses.iter().for_each(|address| links.add(address));
        links
    }

    fn add(&mut self, address: &str) {
        if self.clients.contains_key(address) {
            return;
        }
        let client = Client::new(address, self.options.clone());
        for (proc, receiver) in &self.pushes {
            client.on_push(*proc, receiver.clone());
        }
        self.addresses.push(address.to_owned());
        self.clients.insert(address.to_owned(), client);
    }

    /// Whom to ask: the master, or the next of all.
    pub(super) fn target(&self) -> Client {
        let address = self.master.as_ref().unwrap_or(&self.addresses[self.next]);
        self.clients[address].clone()
    }

    pub(super) fn master(&self) -> Option<&String> {
        self.master.as_ref()
    }

    /// All addresses, for people.
    pub(super) fn names(&self) -> String {
        self.addresses.join(" ")
    }

    /// Connections to everybody but `address`.
    pub(super) fn others(&self, address: &str) -> Vec<Client> {
        let others = self.clients.iter().filter(|(other, _)| *other != address);
        others.map(|(_, client)| client.clone()).collect()
    }

    pub(super) fn on_push(&mut self, proc: Proc, receiver: NotifyFn) {
        for client in self.clients.values() {
            client.on_push(proc, receiver.clone());
        }
        self.pushes.push((proc, receiver));
    }

    /// Takes note of a view; whether it names a master and is later than what was known.
    pub(super) fn learn(&mut self, view: &View) -> bool {
        // An address that does not parse cannot be a member; views of a forming replica repeat its configuration.
        for member in view.members.iter().filter(|member| rpc::addr::parse(member).is_ok()) {
            self.add(member);
        }
        let news = view.number > self.view || (view.number == self.view && self.master.is_none());
        let Some(master) = view.master.as_ref().filter(|master| news && self.clients.contains_key(*master))
        else {
            return false;
        };
        if self.shunned.as_ref().is_some_and(|(shunned, led)| shunned == master && view.number <= *led) {
            return false;
        }
        self.view = view.number;
        self.master = Some(master.clone());
        true
    }

    /// The replica at `address` said it is not the master, and sent `view`. Whether there is somebody to ask at once.
    pub(super) fn refused(&mut self, address: &str, view: &View) -> bool {
        if self.master.as_deref() == Some(address) {
            // It was; its own word that it is no longer is better than anything heard before.
            self.master = None;
            self.view = self.view.max(view.number);
        }
        self.advance(address)
    }

    /// The replica at `address` cannot be asked. Whether there is somebody to ask at once.
    pub(super) fn failed(&mut self, address: &str) -> bool {
        if self.master.as_deref() == Some(address) {
            self.master = None;
            self.shunned = Some((address.to_owned(), self.view));
        }
        self.advance(address)
    }

    /// The replica at `address` answered as the master; whether that is news.
    pub(super) fn answered(&mut self, address: &str) -> bool {
        self.in_vain = 0;
        self.shunned = None;
        let news = self.master.as_deref() != Some(address);
        if news {
            self.master = Some(address.to_owned());
        }
        news
    }

    /// Goes on to the next address; false after each round over all of them.
    fn advance(&mut self, address: &str) -> bool {
        if self.addresses[self.next] == address {
            self.next = (self.next + 1) % self.addresses.len();
        }
        self.in_vain += 1;
        if self.in_vain >= self.addresses.len() {
            self.in_vain = 0;
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(runtime: &tokio::runtime::Runtime, addresses: &[&str]) -> Links {
        let options = ClientOptions { runtime: Some(runtime.handle().clone()), ..ClientOptions::default() };
        Links::new(addresses.iter().map(|address| (*address).to_owned()).collect(), options)
    }

    fn view(number: u64, master: Option<&str>) -> View {
        let members = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"].map(str::to_owned).to_vec();
        View { number, members, master: master.map(str::to_owned) }
    }

    #[test]
    fn all_addresses_are_tried_in_turn_and_for_ever() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut links = links(&runtime, &["127.0.0.1:1", "127.0.0.1:2"]);
        let mut asked = Vec::new();
        let mut pauses = 0;
        for _ in 0..6 {
            let address = links.target().addr().to_owned();
            pauses += u32::from(!links.failed(&address));
            asked.push(address);
        }
        let round = ["127.0.0.1:1", "127.0.0.1:2"].repeat(3);
        assert_eq!(asked, round);
        assert_eq!(pauses, 3);
    }

    #[test]
    fn a_later_view_is_followed_and_an_older_one_ignored() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut links = links(&runtime, &["127.0.0.1:1"]);
        assert!(links.learn(&view(4, Some("127.0.0.1:2"))));
        assert_eq!(links.target().addr(), "127.0.0.1:2");
        assert!(!links.learn(&view(3, Some("127.0.0.1:3"))));
        assert_eq!(links.target().addr(), "127.0.0.1:2");
        assert!(links.learn(&view(5, Some("127.0.0.1:3"))));
        assert_eq!(links.target().addr(), "127.0.0.1:3");
        links.failed("127.0.0.1:3");
        assert!(!links.learn(&view(5, Some("127.0.0.1:3"))), "the others are slower to notice");
        assert_eq!(links.master(), None);
        assert!(!links.learn(&view(6, None)));
    }

    #[test]
    fn a_deposed_master_is_believed() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut links = links(&runtime, &["127.0.0.1:1"]);
        links.answered("127.0.0.1:1");
        let news = view(7, None);
        links.learn(&news);
        links.refused("127.0.0.1:1", &news);
        assert_eq!(links.master(), None);
        assert!(!links.learn(&view(6, Some("127.0.0.1:1"))), "what a straggler believes is old");
        assert!(links.learn(&view(7, Some("127.0.0.1:2"))));
    }
}
