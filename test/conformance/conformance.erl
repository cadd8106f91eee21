%% Runs OTP's epmd_SUITE with C `epmd' and with ours as its program, in the same
%% way, and compares what became of each case.
-module(conformance).

-export([main/1]).

%% The suite has a fixed port and sleeps most of the time: in networks of their
%% own each program has this many runs at a time, with a part of the cases each.
-define(PARTS, 5).

%% @doc Compares, prints a table and ends the VM, with status 0 if no case failed.
-spec main([string()]) -> no_return().
main([Directory, Ours]) ->
    Cases = conformance_run:cases(),
    Results = run([{c, os:find_executable("epmd")}, {ours, Ours}], Cases, Directory),
    Compared = [
        {Case, verdict(OfC, OfOurs), OfC, OfOurs}
     || {_, Case} <- Cases,
        OfC <- [maps:get({c, Case}, Results, missing)],
        OfOurs <- [maps:get({ours, Case}, Results, missing)]
    ],
    print("", "", "C epmd", "ours"),
    lists:foreach(fun print/1, Compared),
    Count = fun(Verdict) -> length([V || {_, V, _, _} <- Compared, V =:= Verdict]) end,
    Failed = Count(failed),
    io:format("~n~b passed, ~b failed, ~b skipped~n", [Count(passed), Failed, Count(skipped)]),
    halt(min(Failed, 1)).

%% What became of each case with each program.
run(Programs, Cases, Directory) ->
    _ = file:del_dir_r(Directory),
    Network = network(),
    Runs = [{Program, Part} || Program <- Programs, Part <- parts(Cases, Network)],
    Run = fun({N, {{Whose, Program}, Part}}) ->
        Of = filename:join(Directory, integer_to_list(N)),
        Results = conformance_run:run(Network, Program, Part, Of),
        [{{Whose, Case}, Result} || {Case, Result} <- Results]
    end,
    Batches =
        case Network of
            [] -> [[One] || One <- lists:enumerate(Runs)];
            _ -> [lists:enumerate(Runs)]
        end,
    maps:from_list(lists:append([at_a_time(Run, Batch) || Batch <- Batches])).

parts(Cases, []) ->
    [Cases];
parts(Cases, _Network) ->
    Numbered = lists:enumerate(Cases),
    [[Case || {I, Case} <- Numbered, I rem ?PARTS =:= Part] || Part <- lists:seq(0, ?PARTS - 1)].

%% The command that starts another in a network and among processes of its own, or
%% none where that is not allowed.
network() ->
    Unshare = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"],
    Up = ["sh", "-c", "ip link set lo up && exec \"$@\"", "sh"],
    Commands = [Unshare ++ Up, Unshare ++ ["--map-root-user" | Up]],
    hd([Command || Command <- Commands, succeeds(Command ++ ["true"])] ++ [[]]).

succeeds([Program | Arguments]) ->
    Path = os:find_executable(Program),
    Options = [{args, Arguments}, exit_status, stderr_to_stdout],
    Path =/= false andalso status(open_port({spawn_executable, Path}, Options)) =:= 0.

status(Port) ->
    receive
        {Port, {exit_status, Status}} -> Status
    end.

%% What the fun yields for each, in one list.
at_a_time(Fun, List) ->
    Started = [spawn_monitor(fun() -> exit({done, Fun(Element)}) end) || Element <- List],
    lists:append([
        receive
            {'DOWN', Monitor, process, Pid, {done, Results}} -> Results;
            {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
        end
     || {Pid, Monitor} <- Started
    ]).

%% A case that cannot be run with C `epmd' either, for the same reason, is skipped.
%% One that fails with both has failed: it tells nothing about ours.
verdict(_, {ok, _}) -> passed;
verdict({{skipped, Reason}, _}, {{skipped, Reason}, _}) -> skipped;
verdict(_, _) -> failed.

print({Case, Verdict, OfC, OfOurs}) ->
    print(atom_to_list(Case), atom_to_list(Verdict), summary(OfC), summary(OfOurs)),
    Reasons = [Reason || Verdict =/= passed, {{_, Reason}, _} <- [OfC, OfOurs]],
    [io:format("    ~0tp~n", [Reason]) || Reason <- lists:uniq(Reasons)].

print(Case, Verdict, OfC, OfOurs) ->
    io:format("~-45ts~-10ts~-16ts~ts~n", [Case, Verdict, OfC, OfOurs]).

summary(missing) -> "missing";
summary({{Outcome, _}, Milliseconds}) -> summary({Outcome, Milliseconds});
summary({Outcome, Milliseconds}) -> io_lib:format("~s, ~.1f s", [Outcome, Milliseconds / 1000]).
