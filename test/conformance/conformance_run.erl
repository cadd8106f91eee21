%% One run of OTP's epmd_SUITE, in a VM of its own.
-module(conformance_run).
-behaviour(gen_event).

-export([cases/0, run/4]).
-export([in_vm/3]).
-export([init/1, handle_event/2, handle_call/2]).
-export_type([test_case/0, result/0]).

-include_lib("common_test/include/ct_event.hrl").

-define(SUITE, epmd_SUITE).

-type test_case() :: {Group :: atom(), Case :: atom()}.
-type result() :: {
    ok | {failed | skipped | auto_skipped, Reason :: term()}, Milliseconds :: non_neg_integer()
}.

%% @doc All cases of the suite, in its order.
-spec cases() -> [test_case()].
cases() ->
    lists:flatmap(
        fun
            ({group, Group}) ->
                {Group, _, Cases} = lists:keyfind(Group, 1, ?SUITE:groups()),
                [{Group, Case} || Case <- Cases];
            (Case) ->
                [{none, Case}]
        end,
        ?SUITE:all()
    ).

%% @doc Runs cases with a program, in a VM that a command starts, if one is given,
%% and yields what became of them. What is printed and logged is left in the
%% directory. It becomes where the calling process prints to.
-spec run([string()], file:filename(), [test_case()], file:filename()) -> [{atom(), result()}].
run(Command, Program, Cases, Directory) ->
    ok = filelib:ensure_path(Directory),
    {ok, Output} = file:open(filename:join(Directory, "output"), [write]),
    true = group_leader(Output, self()),
    Quiet = ["-c", "exec \"$@\" 2>\"$0\"", filename:join(Directory, "errors")],
    {ok, Peer, _} = peer:start_link(#{
        connection => standard_io,
        exec => {os:find_executable("sh"), Quiet ++ Command ++ ["erl"]},
        args => ["-pa", directory()],
        wait_boot => 60_000
    }),
    Results = peer:call(Peer, ?MODULE, in_vm, [Program, Cases, Directory], infinity),
    ok = peer:stop(Peer),
    Results.

%% @private
-spec in_vm(file:filename(), [test_case()], file:filename()) -> [{atom(), result()}].
in_vm(Program, Cases, Directory) ->
    %% The suite takes the `epmd' that it finds in the path.
    true = os:putenv("PATH", filename:dirname(Program) ++ ":" ++ os:getenv("PATH")),
    Program = os:find_executable("epmd"),
    true = register(?MODULE, self()),
    Options = [
        {dir, directory()},
        {suite, ?SUITE},
        {auto_compile, false},
        {logdir, Directory},
        {event_handler, ?MODULE}
    ],
    lists:foreach(
        fun(Of) -> {_, _, _} = ct:run_test(Options ++ Of) end,
        [[{testcase, Of} || Of <- [[Case || {none, Case} <- Cases]], Of =/= []]
         | [[{group, Group}, {testcase, Case}] || {Group, Case} <- Cases, Group =/= none]]
    ),
    results(#{}).

directory() ->
    filename:dirname(code:which(?MODULE)).

%% What the event handler told.
results(Started) ->
    receive
        {tc_start, Case, Time} ->
            results(Started#{Case => Time});
        {tc_done, Case, Result, Time} when is_map_key(Case, Started) ->
            [{Case, {Result, Time - maps:get(Case, Started)}} | results(Started)];
        {tc_done, Case, Result, _} ->
            [{Case, {Result, 0}} | results(Started)]
    after 0 -> []
    end.

%% @private
init(_) ->
    {ok, []}.

%% @private
handle_event(#event{name = Name, data = Data}, State) ->
    tell(Name, Data),
    {ok, State}.

%% @private
handle_call(_, State) ->
    {ok, ok, State}.

tell(tc_start, {?SUITE, Case}) when is_atom(Case) ->
    ?MODULE ! {tc_start, Case, erlang:monotonic_time(millisecond)};
tell(tc_done, {?SUITE, Case, Result}) when is_atom(Case) ->
    ?MODULE ! {tc_done, Case, Result, erlang:monotonic_time(millisecond)};
tell(_, _) ->
    ok.
