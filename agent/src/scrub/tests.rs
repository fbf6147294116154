//! Every way of giving a secret that people know, and what is no secret.

use proptest::prelude::*;

use super::*;

fn check(arguments: &[&str], shown: &str) {
    let bytes: Vec<u8> = arguments
        .iter()
        .flat_map(|argument| [argument.as_bytes(), b"\0"].concat())
        .collect();
    assert_eq!(command_line(&bytes, Cmdline::Scrubbed), shown);
}

#[test]
fn secrets_are_hidden_wherever_people_put_them() {
    check(
        &["x", "--password=hunter2", "--port=80"],
        "x --password=******** --port=80",
    );
    check(
        &["x", "--db-password", "hunter2", "-v"],
        "x --db-password ******** -v",
    );
    check(&["mysql", "-p", "hunter2"], "mysql -p ********");
    check(&["mysql", "-phunter2"], "mysql -p********");
    check(&["ssh", "-p2222", "host"], "ssh -p2222 host");
    check(&["env", "API_TOKEN=abc", "run"], "env API_TOKEN=******** run");
    check(
        &["c", "https://u:pw@host/p?q=1"],
        "c https://u:********@host/p?q=1",
    );
    check(
        &["curl", "-H", "Authorization: Bearer abc.def"],
        "curl -H Authorization: ******** ********",
    );
    check(&["x", "0123456789abcdef0123456789abcdef"], "x ********");
    check(
        &["curl", "https://h/?access_token=S&x=1"],
        "curl https://h/?access_token=********&x=1",
    );
    check(&["curl", "-u", "user:S"], "curl -u user:********");
    check(&["curl", "-uroot:S"], "curl -uroot:********");
    check(&["keytool", "-storepass", "S"], "keytool -storepass ********");
    check(&["redis", "--requirepass", "S"], "redis --requirepass ********");
    check(
        &["openssl", "-passin", "pass:S", "-in", "f"],
        "openssl -passin ******** -in f",
    );
    check(
        &["x", "--connection-string", "Server=x;Pwd=S;"],
        "x --connection-string Server=x;Pwd=********;",
    );
    check(&["x", "--jwt=eyJhbGciOi.eyJzdWIi.c2ln"], "x --jwt=********");
}

/// Stands for the secret in what follows, and where it stood afterwards there are stars.
const SECRET: &str = "hunter2Q";

#[test]
fn an_option_has_its_secret_after_it_after_a_sign_or_in_the_same_word() {
    for shown in [
        "x --proxy-user u:*",
        "x --proxy-user=u:*",
        "x --user=u:*",
        "curl -U u:*",
        "curl -Uu:* -v",
        "plink -pw * host",
        "x --bearer * -v",
        "x --oauth2-bearer=*",
        "x --key=*",
        "x --key *",
        "lftp PASSWD *",
        "x set password *",
        "x password = *",
        "x password",
        "mysql -e IDENTIFIED BY *",
    ] {
        let arguments: Vec<String> = shown.split(' ').map(|word| word.replace('*', SECRET)).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        check(&arguments, &shown.replace('*', HIDDEN));
    }
}

#[test]
fn a_script_in_one_argument_is_read_word_by_word() {
    for shown in [
        "curl -u bob:* http://h",
        "curl -u 'bob:*' http://h",
        "curl --proxy-user u:* --user u:* -o f",
        "curl --password\n* -v",
        "curl --password\r\n\t* -v",
        "sshpass -p * ssh h",
        "mkdir -p /srv/x; ps -p 2222",
        "open ftp://h\nuser bob\nPASSWD *\nbye",
        "a; set password *; b",
        "mysql -e \"ALTER USER bob IDENTIFIED BY '*'\"",
        "export TOKEN=* run",
        "PGPASSWORD=* psql -h db",
        "'--api-key' '*' -v",
        "x --key=* --key=/etc/key.pem",
    ] {
        // What ends a command or closes a quotation may be hidden with the secret before it.
        let script = shown.replace('*', SECRET);
        let bytes = [b"sh\0-c\0".as_slice(), script.as_bytes(), b"\0"].concat();
        let scrubbed = command_line(&bytes, Cmdline::Scrubbed);
        assert!(!scrubbed.contains(SECRET), "{scrubbed}");
        assert_eq!(scrubbed.contains(HIDDEN), shown.contains('*'), "{scrubbed}");
        for word in shown.split_ascii_whitespace().filter(|word| !word.contains('*')) {
            let word = word.replace('\\', "\\\\");
            assert!(scrubbed.contains(&word), "{word} of {scrubbed}");
        }
    }
}

#[test]
fn a_secret_with_blanks_or_dividers_in_it_is_hidden_to_its_end() {
    check(
        &["x", "--password=a hunter2;b,c", "-v"],
        "x --password=******** -v",
    );
    check(
        &["x", "--password", "a hunter2;b", "-v"],
        "x --password ******** -v",
    );
    check(&["env", "PASSWORD=a hunter2", "x"], "env PASSWORD=******** x");
    check(
        &["sh", "-c", "x --password 'a hunter2' -v"],
        "sh -c x --password ******** ******** -v",
    );
    check(
        &["sh", "-c", "PASSWORD='a hunter2' x"],
        "sh -c PASSWORD=******** ******** x",
    );
    check(
        &["x", "{\"password\":\"a\nhunter2\"}"],
        "x {\"password\":********\\x0a********",
    );
    check(
        &["x", "authorization:Bearer hunter2"],
        "x authorization:******** ********",
    );
}

#[test]
fn what_only_looks_like_an_option_with_a_secret_stays() {
    for line in [
        "sort --key=2,3 f",
        "sort --key 2nr f",
        "curl --key /etc/ssl/x.pem --key=client.key",
        "grep -r password /etc/pam.d",
        "grep password ./src",
        "grep password -r",
        "psql -U anna",
        "x set key value",
    ] {
        check(&line.split(' ').collect::<Vec<_>>(), line);
    }
}

#[test]
fn keys_of_well_known_services_are_hidden_where_nothing_announces_them() {
    for key in [
        "sk-live-51H8xYz",
        "sk_live_51H8xYz",
        "sk_test_51H8xYz",
        "sk-proj-a1-b2_c3",
        "sk-ant-api03-x_y-z",
        "ghp_16C7e42F292c6912E7",
        "gho_16C7e42F292c6912E7",
        "ghs_16C7e42F292c6912E7",
        "github_pat_11ABCDE_x7Yz",
        "xoxb-17653672481-x7Yz",
        "xoxp-17653672481-x7Yz",
        "AKIAIOSFODNN7EXAMPLE",
        "ASIAIOSFODNN7EXAMPLE",
        "glpat-x7Yz-12_ab",
        "eyJhbGciOi.eyJzdWIi.c2ln-x_Y",
    ] {
        let shown = |before: &str, after: &str| {
            check(
                &["x", &format!("{before}{key}{after}"), "-v"],
                &format!("x {}********{after} -v", before.replace('\n', "\\x0a")),
            );
        };
        for (before, after) in [
            ("", ""),
            ("--key=", ""),
            ("a,b;", ";c"),
            ("{\"k\":\"", "\"}"),
            ("cd /\nget '", "' 2>&1"),
            ("https://", "@host/p"),
        ] {
            shown(before, after);
        }
    }
    // Where a user's name is expected, as some services want it.
    check(&["curl", "-u", "sk_live_51H8xYz:"], "curl -u ********");
    check(&["curl", "-usk_live_51H8xYz:"], "curl -u********");
    check(
        &["git", "clone", "https://ghp_16C7e42F:x-oauth-basic@host/p"],
        "git clone https://********@host/p",
    );
}

#[test]
fn ordinary_arguments_stay_as_they_are() {
    check(
        &["ls", "-la", "/usr/lib/x86_64-linux-gnu/systemd"],
        "ls -la /usr/lib/x86_64-linux-gnu/systemd",
    );
    check(
        &[
            "x",
            "risk_live_1",
            "ASIA",
            "--region=ASIA_PACIFIC",
            "asia-east1",
            "heyJude",
            "é",
        ],
        "x risk_live_1 ASIA --region=ASIA_PACIFIC asia-east1 heyJude é",
    );
    check(
        &["java", "-Xmx512m", "-jar", "app.jar"],
        "java -Xmx512m -jar app.jar",
    );
}

#[test]
fn modes_keep_as_much_as_they_say() {
    let bytes = b"x\0--password=hunter2\0";
    assert_eq!(command_line(bytes, Cmdline::Off), "");
    assert_eq!(command_line(bytes, Cmdline::Stripped), "x");
    assert_eq!(command_line(bytes, Cmdline::Full), "x --password=hunter2");
}

proptest! {
    #[test]
    fn the_value_of_a_secret_option_never_shows(
        word in proptest::sample::select(&SECRET_WORDS[..]),
        secret in "[A-Z]{8}[0-9]{4}",
        before in "[a-z]{0,5}",
    ) {
        let forms = [
            format!("x\0--{before}{word}={secret}\0"),
            format!("x\0--{before}{word}\0{secret}\0"),
            format!("x\0{before}_{word}={secret}\0"),
            format!("x\0https://{before}:{secret}@host/\0"),
        ];
        for form in forms {
            prop_assert!(!command_line(form.as_bytes(), Cmdline::Scrubbed).contains(&secret), "{}", form);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        prop_assert!(!command_line(&bytes, Cmdline::Scrubbed).chars().any(char::is_control));
    }
}
