%% @doc Watches the port mapper of any host that knows WATCH (`docs/protocol.md'): which
%% nodes are registered there, and which come and go.
%%
%% ```
%% {ok, Pid} = portmapper_watch:start_link(#{host => "db.example", glob => "db*"}),
%% receive {portmapper_watch, Pid, _Sequence, {nodes, Nodes, 0}} -> Nodes end.
%% [#{name => <<"db1">>,port => 40123,type => 77,creation => 1795438727}]
%% '''
%%
%% The process that starts it is sent `{portmapper_watch, Pid, Sequence, Event}', with events
%% as those of {@link portmapper:subscribe/1}:
%% <dl>
%% <dt>`{nodes, Nodes, Missed}'</dt><dd>All nodes: what was told before holds no more. The
%%   first event, and again after each `lost', or when this side or the server did not keep
%%   up.</dd>
%% <dt>`{up, Node}', `{down, Node}'</dt><dd>A node has come or gone.</dd>
%% <dt>`{lost, Reason}'</dt><dd>There is no connection, or no more: what comes and goes is not
%%   known from now on. It is tried again, first within 100 ms, later every 30 s. Told
%%   once, until there is one again. `unanswered': the EPMD there does not know WATCH, or
%%   does not permit it, so poll it with {@link portmapper:names/2}.</dd>
%% </dl>
%% `creation' is 0 where the host is another one. `Sequence' is 0 with `lost'.
%%
%% What the other side sends is not trusted: all nodes have to come within the time-out, and
%% then something every minute; a host or a network that has gone without a word is noticed
%% after six seconds (on Linux). Anything that is no message, or too much, ends the connection,
%% and whoever does that again and again is asked less and less. While 10,000 messages wait for
%% the process that is told, nothing more is read. It ends with that process.
-module(portmapper_watch).
-behaviour(gen_server).

-export([start_link/1, stop/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([options/0, event/0]).

%% The longest message that there is, and more, for kinds that are not known yet.
-define(MAX_MESSAGE, 4096).
%% Bytes of messages that tell of all nodes.
-define(MAX_NODES, 16#1000000).
%% Messages read in a row.
-define(BATCH, 100).
%% Messages that may wait for the owner, and milliseconds until it is looked again.
-define(MAX_QUEUE, 10_000).
-define(RETRY, 100).
%% Milliseconds that the other side may be silent, and between two looks.
-define(SILENCE, 60_000).
-define(LOOK, 15_000).
%% Of Linux, tcp(7).
-define(IPPROTO_TCP, 6).
-define(TCP_KEEPIDLE, 4).
-define(TCP_KEEPINTVL, 5).
-define(TCP_KEEPCNT, 6).
%% Seconds of silence until the system asks the other side whether it is there, and between
%% two such questions; and how many are not answered until it is not.
-define(KEEPALIVE_TIME, 3).
-define(KEEPALIVE_INTERVAL, 1).
-define(KEEPALIVE_COUNT, 3).
%% Milliseconds until it is tried again to connect, the first time and at most; and how long a
%% connection has to last after it has told all nodes so that the next time is a first one:
%% else one that tells a lot, and then lies, would be heard again and again.
-define(FIRST_PAUSE, 100).
-define(LAST_PAUSE, 30_000).
-define(STABLE, 5_000).
%% The longest pause before all nodes are heard once more over the same connection.
-define(LAST_REPETITION, 2_000).

-type options() :: #{
    host := portmapper_remote:host(),
    port => 1..65535,
    timeout => 1..16#7fffffff,
    glob => portmapper:name()
}.
%% As in {@link portmapper_remote:target()}; `glob' is `"*"' by default.

-type node_up() :: #{
    name := binary(),
    port := inet:port_number(),
    type := byte(),
    creation := 0 | portmapper:creation()
}.

-type event() ::
    {nodes, [node_up()], Missed :: non_neg_integer()}
    | {up, node_up()}
    | {down, #{name := binary(), creation := 0 | portmapper:creation(), reason := atom()}}
    | {lost, portmapper_remote:reason() | bad_message}.

-record(state, {
    owner :: pid(),
    where :: #{host := portmapper_remote:host(), port := 1..65535, _ => _},
    socket :: gen_tcp:socket() | undefined,
    %% What is told: nothing yet, all nodes (newest first, and bytes of them), or changes.
    phase = start :: start | {all, Missed :: non_neg_integer(), [node_up()], non_neg_integer()} | changes,
    %% Until when all nodes have to be told for the first time.
    deadline :: reference() | undefined,
    %% When something was heard last.
    heard = 0 :: integer(),
    is_paused = false :: boolean(),
    is_lost = false :: boolean(),
    %% In a row, with repetitions of all nodes; and when all were told last.
    failures = 0 :: non_neg_integer(),
    told_at :: integer() | undefined,
    %% Until when nothing is read.
    reads_at = now_ms() :: integer()
}).

%% @doc Begins, without waiting for a connection. The caller is told.
-spec start_link(options()) -> {ok, pid()} | {error, portmapper_options:bad_option()}.
start_link(Options) ->
    case portmapper_options:watch(Options) of
        {ok, Where} ->
            {ok, _} = gen_server:start_link(?MODULE, {self(), Where}, []);
        {error, _} = Error ->
            Error
    end.

%% @doc Ends it. No message of it comes afterwards.
-spec stop(pid()) -> ok.
stop(Pid) ->
    Monitor = monitor(process, Pid),
    true = unlink(Pid),
    true = exit(Pid, shutdown),
    receive
        {'DOWN', Monitor, process, Pid, _} -> flush(Pid)
    end.

flush(Pid) ->
    receive
        {portmapper_watch, Pid, _Sequence, _Event} -> flush(Pid)
    after 0 -> ok
    end.

%% @private
-spec init({pid(), map()}) -> {ok, #state{}, {continue, connect}}.
init({Owner, Where}) ->
    _ = monitor(process, Owner),
    _ = erlang:send_after(?LOOK, self(), look),
    {ok, #state{owner = Owner, where = Where}, {continue, connect}}.

%% @private
handle_continue(connect, #state{where = #{timeout := Timeout, glob := Glob} = Where} = State) ->
    Deadline = now_ms() + Timeout,
    Options = [{packet, 2}, {packet_size, ?MAX_MESSAGE}, {nodelay, true}],
    case portmapper_remote:connect(Where, Options ++ keepalive(), Deadline) of
        {ok, Socket} ->
            Timer = erlang:start_timer(Deadline, self(), all, [{abs, true}]),
            Connected = State#state{
                socket = Socket, phase = start, deadline = Timer, reads_at = now_ms()
            },
            case gen_tcp:send(Socket, <<"W", Glob/binary>>) of
                ok -> {noreply, go_on(Connected)};
                {error, Reason} -> {noreply, lost(Reason, Connected)}
            end;
        {error, Reason} ->
            {noreply, lost(Reason, State)}
    end.

%% A host or a network that is gone says nothing.
keepalive() ->
    case os:type() of
        {unix, linux} ->
            [{keepalive, true} | [
                {raw, ?IPPROTO_TCP, Option, <<Value:32/native>>}
             || {Option, Value} <- [
                    {?TCP_KEEPIDLE, ?KEEPALIVE_TIME},
                    {?TCP_KEEPINTVL, ?KEEPALIVE_INTERVAL},
                    {?TCP_KEEPCNT, ?KEEPALIVE_COUNT}
                ]
            ]];
        _ ->
            [{keepalive, true}]
    end.

%% @private
handle_call(_Request, _From, State) ->
    {reply, ok, State}.

%% @private
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
handle_info({tcp, Socket, Message}, #state{socket = Socket} = State) ->
    case told(Message, State#state.phase) of
        {ok, Phase} ->
            {noreply, State#state{phase = Phase, heard = now_ms()}};
        {again, Phase} ->
            {noreply, again(State#state{phase = Phase, heard = now_ms()})};
        {tell, Sequence, Event, Phase} ->
            {noreply, tell(Sequence, Event, State#state{phase = Phase, heard = now_ms()})};
        {error, Reason} ->
            {noreply, lost(Reason, State)}
    end;
handle_info({tcp_passive, Socket}, #state{socket = Socket} = State) ->
    {noreply, go_on(State)};
handle_info({tcp_closed, Socket}, #state{socket = Socket, phase = start} = State) ->
    {noreply, lost(unanswered, State)};
handle_info({tcp_closed, Socket}, #state{socket = Socket} = State) ->
    {noreply, lost(closed, State)};
handle_info({tcp_error, Socket, emsgsize}, #state{socket = Socket} = State) ->
    {noreply, lost(bad_message, State)};
handle_info({tcp_error, Socket, econnreset}, #state{socket = Socket, phase = start} = State) ->
    {noreply, lost(unanswered, State)};
handle_info({tcp_error, Socket, Reason}, #state{socket = Socket} = State) ->
    {noreply, lost(Reason, State)};
handle_info({timeout, Timer, all}, #state{deadline = Timer} = State) ->
    {noreply, lost(timeout, State)};
handle_info(look, #state{socket = Socket, heard = Heard, is_paused = IsPaused} = State) ->
    _ = erlang:send_after(?LOOK, self(), look),
    case Socket =/= undefined andalso not IsPaused andalso now_ms() - Heard > ?SILENCE of
        true -> {noreply, lost(timeout, State)};
        false -> {noreply, State}
    end;
handle_info({go_on, Socket}, #state{socket = Socket} = State) ->
    {noreply, go_on(State)};
handle_info(connect, #state{socket = undefined} = State) ->
    {noreply, State, {continue, connect}};
handle_info({'DOWN', _Monitor, process, Owner, _Reason}, #state{owner = Owner} = State) ->
    {stop, normal, State};
handle_info(_Message, State) ->
    {noreply, State}.

%% Reads on, once the owner has room for what comes.
go_on(#state{socket = Socket} = State) ->
    case pause(State) of
        0 ->
            %% If it is closed, a message says so.
            _ = inet:setopts(Socket, [{active, ?BATCH}]),
            State#state{is_paused = false, heard = now_ms()};
        Pause ->
            _ = erlang:send_after(Pause, self(), {go_on, Socket}),
            State#state{is_paused = true}
    end.

pause(#state{owner = Owner, reads_at = ReadsAt}) ->
    case process_info(Owner, message_queue_len) of
        {message_queue_len, Length} when Length >= ?MAX_QUEUE -> ?RETRY;
        _ -> max(0, ReadsAt - now_ms())
    end.

%% All nodes are about to be told again.
again(State) ->
    Failures = failures(State),
    Pause = portmapper_backoff:time(Failures, ?FIRST_PAUSE, ?LAST_REPETITION),
    State#state{failures = Failures + 1, told_at = undefined, reads_at = now_ms() + Pause}.

%% Those in a row before the next one.
failures(#state{told_at = ToldAt, failures = Failures}) ->
    case ToldAt =/= undefined andalso now_ms() - ToldAt >= ?STABLE of
        true -> 0;
        false -> Failures
    end.

%% What a message says, and what may come next.
told(<<"B", Missed:64>>, start) ->
    {ok, {all, Missed, [], 0}};
told(<<"B", Missed:64>>, changes) ->
    {again, {all, Missed, [], 0}};
told(<<"N", Node/binary>>, {all, Missed, Nodes, Size}) ->
    case up(Node) of
        error -> {error, bad_message};
        _ when Size > ?MAX_NODES -> {error, too_long};
        Up -> {ok, {all, Missed, [Up | Nodes], Size + byte_size(Node)}}
    end;
told(<<"E", Sequence:64>>, {all, Missed, Nodes, _Size}) ->
    {tell, Sequence, {nodes, lists:reverse(Nodes), Missed}, changes};
told(<<"U", Sequence:64, Node/binary>>, changes) ->
    case up(Node) of
        error -> {error, bad_message};
        Up -> {tell, Sequence, {up, Up}, changes}
    end;
told(<<"D", Sequence:64, Creation:32, Reason, Name/binary>>, changes) ->
    case name(Name) of
        error ->
            {error, bad_message};
        Copy ->
            Down = #{name => Copy, creation => Creation, reason => reason(Reason)},
            {tell, Sequence, {down, Down}, changes}
    end;
told(<<"A">>, changes) ->
    {ok, changes};
told(<<Kind, _/binary>>, Phase) ->
    %% One that is not known yet is ignored.
    case lists:member(Kind, "BNEUDA") orelse Phase =:= start of
        true -> {error, bad_message};
        false -> {ok, Phase}
    end;
told(<<>>, _Phase) ->
    {error, bad_message}.

up(<<Creation:32, Port:16, Type, Name/binary>>) ->
    case name(Name) of
        error -> error;
        Copy -> #{name => Copy, port => Port, type => Type, creation => Creation}
    end;
up(_Node) ->
    error.

%% Not a part of what was received, which would be kept with it.
name(Bytes) when Bytes =/= <<>>, byte_size(Bytes) =< 1020 ->
    case unicode:characters_to_binary(Bytes) of
        Bytes -> binary:copy(Bytes);
        _ -> error
    end;
name(_Bytes) ->
    error.

reason(0) -> closed;
reason(1) -> surplus_data;
reason(2) -> stopped;
reason(3) -> dropped;
reason(4) -> unregistered;
reason(5) -> evicted;
reason(_) -> unknown.

tell(Sequence, Event, #state{owner = Owner} = State) ->
    Owner ! {portmapper_watch, self(), Sequence, Event},
    case Event of
        {nodes, _, _} ->
            ok = cancel(State#state.deadline),
            State#state{deadline = undefined, is_lost = false, told_at = now_ms()};
        _ ->
            State
    end.

%% Tries again later.
lost(Reason, #state{socket = Socket, is_lost = WasLost} = State) ->
    _ = [gen_tcp:close(Socket) || Socket =/= undefined],
    ok = cancel(State#state.deadline),
    Failures = failures(State),
    Time = portmapper_backoff:time(Failures, ?FIRST_PAUSE, ?LAST_PAUSE),
    _ = erlang:send_after(Time, self(), connect),
    Told =
        case WasLost of
            true -> State;
            false -> tell(0, {lost, Reason}, State)
        end,
    Told#state{
        socket = undefined,
        deadline = undefined,
        is_lost = true,
        failures = Failures + 1,
        told_at = undefined
    }.

cancel(undefined) -> ok;
cancel(Timer) ->
    _ = erlang:cancel_timer(Timer),
    ok.

now_ms() ->
    erlang:monotonic_time(millisecond).
