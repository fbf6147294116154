# A made-up shop to look at: workers that compute for a part of each tenth of a second, hold some memory, and start
# something short-lived now and then.
use strict;
use warnings;
use Getopt::Long;
use Time::HiRes qw(sleep time);

my ($cpu, $mib, $workers, $mails, $once) = (1, 1, 0, 0, 0);
GetOptions('cpu=i' => \$cpu, 'mib=i' => \$mib, 'workers=i' => \$workers, 'mails' => \$mails, 'once' => \$once) or exit 2;
if ($once) {
    my $sum = 0;
    $sum += $_ for 1 .. 300_000;
    exit 0;
}
for (1 .. $workers) {
    my $pid = fork() // die "fork: $!";
    next if $pid;
    work($cpu);
}
$SIG{CHLD} = 'IGNORE';
work($workers ? 1 : $cpu);

sub work {
    my ($percent) = @_;
    my $held = 'x' x ($mib << 20);
    my $parent = getppid();
    my $round = 0;
    # Whoever started it is gone: so is it.
    while (getppid() == $parent) {
        my $end = time() + $percent / 1000;
        my $sum = 0;
        while (time() < $end) { $sum += $_ for 1 .. 1000 }
        if ($mails && $round++ % 25 == 0) {
            my $pid = fork() // die "fork: $!";
            exec({ './shop-mail' } 'shop-mail', 'app.pl', '--once') unless $pid;
        }
        sleep 0.1 - $percent / 1000 if $percent < 100;
    }
    exit 0;
}
