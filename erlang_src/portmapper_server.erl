%% @doc Owns the life of the Rust server and its configuration.
%%
%% The server is a value that outlives this process, and the code of its library: a
%% persistent term tells that it is there, and a restarted process takes hold of it
%% again. Look-ups and listings read that term and do not pass through here.
-module(portmapper_server).
-behaviour(gen_server).

-export([start_link/0, open/0, close/1, what_ends/0, hand_on/0, stand_by/0, adopt/1]).
-export([server/0, serves/0, call/1, reconfigure/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, code_change/3]).

%% Notices taken at a time.
-define(BATCH, 500).
%% Milliseconds between two replacements of the server's thread at the least:
%% a thread that dies at once, every time, must not keep a core busy.
-define(RESUME_INTERVAL, 100).
%% Milliseconds between two attempts to get the server into the library that is
%% loaded.
-define(ATTACH_INTERVAL, 5000).
%% Milliseconds after which a VM that was started for this has started, and after
%% which nothing else is to be expected.
-define(TRIM_AFTER, 1000).
%% So many notices leave memory behind that is worth to be given back.
-define(MANY, 1000).

-record(state, {
    server :: portmapper_nif:server(),
    %% When the server's thread was replaced last, in monotonic milliseconds.
    resumed = erlang:monotonic_time(millisecond) - ?RESUME_INTERVAL :: integer(),
    log = portmapper_log:new() :: portmapper_log:log(),
    %% Notices since memory was given back.
    noticed = 0 :: non_neg_integer()
}).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc The server that is there, else a new one by the configuration.
-spec open() -> {ok, portmapper_nif:server()} | {error, term()}.
open() ->
    case kept() of
        undefined ->
            start();
        Server ->
            case portmapper_nif:phase(Server) of
                closed -> start();
                _ -> {ok, Server}
            end
    end.

%% The one that is kept.
-spec kept() -> portmapper_nif:server() | undefined.
kept() ->
    case persistent_term:get(?MODULE, undefined) of
        undefined ->
            undefined;
        Server ->
            case portmapper_nif:phase(Server) of
                none -> undefined;
                _ -> Server
            end
    end.

%% The same, even if it is closed already: by a KILL, maybe, which the notices
%% tell.
-spec hold() -> {ok, portmapper_nif:server()} | {error, term()}.
hold() ->
    case kept() of
        undefined -> start();
        Server -> {ok, Server}
    end.

-spec start() -> {ok, portmapper_nif:server()} | {error, term()}.
start() ->
    case portmapper_nif:load() of
        ok ->
            case portmapper_config:with_checked(fun portmapper_nif:start/3) of
                {ok, Server} ->
                    persistent_term:put(?MODULE, Server),
                    %% There is nobody left to take over from.
                    ok = application:unset_env(portmapper, takeover),
                    portmapper_log:set_level(portmapper_nif:config(Server)),
                    portmapper_log:listening(portmapper_nif:info(Server)),
                    {ok, Server};
                {error, _} = Error ->
                    Error
            end;
        {error, {Reason, Text}} ->
            {error, {cannot_load_library, #{reason => Reason, text => Text}}}
    end.

%% @doc Closes the server on request, after which none is there. If the whole VM is
%% about to end, what a service manager keeps stays for the next one.
-spec close(application | vm) -> ok.
close(WhatEnds) ->
    Kept = kept(),
    _ = persistent_term:erase(?MODULE),
    case Kept of
        undefined ->
            ok;
        Server ->
            portmapper_log:unset_level(portmapper_nif:config(Server)),
            ok = portmapper_nif:end_subscriptions(),
            case WhatEnds of
                application -> portmapper_nif:stop(Server);
                vm -> portmapper_nif:leave(Server)
            end
    end.

%% @doc Hands the server over to another VM that stands by, or else closes it.
-spec hand_on() -> ok.
hand_on() ->
    WhatEnds = what_ends(),
    case kept() of
        undefined ->
            ok;
        Server ->
            portmapper_nif:hand_on(Server) andalso portmapper_log:handed_on(),
            close(WhatEnds)
    end.

%% @doc Stands by for the port mapper that this VM would be otherwise. See {@link
%% portmapper_nif:stand_by/1}.
-spec stand_by() -> ok | {error, term()}.
stand_by() ->
    case portmapper_nif:load() of
        ok ->
            Use = fun(Config, _, _) -> portmapper_nif:stand_by(Config) end,
            case portmapper_config:with_checked(Use) of
                {ok, {}} -> ok;
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

%% @doc Takes hold of a server that was taken over.
-spec adopt(portmapper_nif:server()) -> ok.
adopt(Server) ->
    persistent_term:put(?MODULE, Server),
    portmapper_log:set_level(portmapper_nif:config(Server)),
    portmapper_log:listening(portmapper_nif:info(Server)).

%% @doc What is about to end, for {@link close/1}.
-spec what_ends() -> application | vm.
what_ends() ->
    case init:get_status() of
        {stopping, _} -> vm;
        _ -> application
    end.

%% @doc Calls the server that is there. Fails with `{not_running, portmapper}'. A call
%% that is late in an upgrade is made again, to the library that has the server then.
-spec call(fun((portmapper_nif:server()) -> Result)) -> Result.
call(Call) ->
    try
        Call(server())
    catch
        error:moved -> call(Call)
    end.

%% @doc The server that is there.
-spec server() -> portmapper_nif:server().
server() ->
    case persistent_term:get(?MODULE, undefined) of
        undefined -> error({not_running, portmapper});
        Server -> Server
    end.

%% @doc Whether there is a server that goes on, though its thread may have to be
%% replaced.
-spec serves() -> boolean().
serves() ->
    case kept() of
        undefined -> false;
        Server -> portmapper_nif:phase(Server) =/= closed
    end.

%% @doc See {@link portmapper:reconfigure/1}.
-spec reconfigure(map()) -> ok | {error, term()}.
reconfigure(Changes) ->
    _ = server(),
    gen_server:call(?MODULE, {reconfigure, Changes}, infinity).

%% @private
-spec init([]) -> {ok, #state{}} | {stop, term()}.
init([]) ->
    case hold() of
        {ok, Server} ->
            Phase = attach(Server),
            %% What happened while nobody listened.
            self() ! portmapper,
            State = #state{server = Server},
            Phase =/= elsewhere andalso trim_later(State),
            {ok, State};
        {error, Reason} ->
            %% The one before was closed unasked, and there is no other to be had.
            portmapper_log:cannot_start(Reason),
            ok = end_application(1),
            {stop, {shutdown, Reason}}
    end.

trim_later(#state{server = Server, noticed = Noticed}) ->
    case portmapper_nif:config(Server) of
        #{trim_memory := true} ->
            _ = erlang:send_after(?TRIM_AFTER, self(), {trim_memory, Noticed}),
            ok;
        _ ->
            ok
    end.

%% Counts notices, and sees to it that memory is given back when there were many.
noticed(Count, #state{noticed = Before} = State) ->
    Counted = State#state{noticed = Before + Count},
    Before < ?MANY andalso Before + Count >= ?MANY andalso trim_later(Counted),
    Counted.

%% @private
handle_call({reconfigure, Changes}, _From, State) ->
    {reply, call(fun(Server) -> portmapper_config:change(Server, Changes) end), State}.

%% @private
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private An upgrade of the library is complete with the first call to it.
code_change(_OldVersion, #state{server = Server} = State, _Extra) ->
    _ = attach(Server),
    {ok, State}.

%% Of a library that was loaded since, this process is not the owner yet. If the
%% server cannot get there it goes on where it is, until a later attempt.
-spec attach(portmapper_nif:server()) -> portmapper_nif:phase() | elsewhere.
attach(Server) ->
    try
        portmapper_nif:attach(Server)
    catch
        error:moved ->
            attach(Server);
        error:{Tag, Reason} when Tag =:= not_handed_over; Tag =:= cannot_load_library ->
            portmapper_log:elsewhere(Reason),
            _ = erlang:send_after(?ATTACH_INTERVAL, self(), portmapper),
            elsewhere
    end.

%% @private
handle_info(portmapper, #state{server = Server} = State) ->
    %% Before the notices are taken: all that led to it are among them then.
    case attach(Server) of
        elsewhere ->
            {noreply, State};
        Phase ->
            {Notices, Missed} = portmapper_nif:take_notices(Server, ?BATCH),
            look(Phase, Notices, noticed(length(Notices), log(Notices, Missed, State)))
    end;
handle_info({portmapper, Notices, Missed}, State) ->
    %% From the library that the server was in before.
    {noreply, log(Notices, Missed, State)};
handle_info(tell_suppressed, #state{log = Log} = State) ->
    {noreply, State#state{log = portmapper_log:tell_suppressed(Log)}};
handle_info({trim_memory, Noticed}, #state{noticed = Noticed} = State) ->
    %% The heaps of those that had much to do are large.
    _ = [erlang:garbage_collect(Pid) || Pid <- processes()],
    ok = portmapper_nif:trim_memory(),
    {noreply, State#state{noticed = 0}, hibernate};
handle_info({trim_memory, _Before}, State) ->
    %% Not while there is much to do.
    ok = trim_later(State),
    {noreply, State};
handle_info(_Message, State) ->
    {noreply, State}.

log(Notices, Missed, #state{server = Server, log = Log} = State) ->
    State#state{log = portmapper_log:notices(Notices, Missed, Log, Server)}.

look(Phase, Notices, State) ->
    case lists:any(fun is_end/1, Notices) of
        false when length(Notices) =:= ?BATCH ->
            %% Only a shorter batch has the server wake this process again.
            self() ! portmapper,
            {noreply, State};
        false ->
            follow(Phase, State);
        true ->
            ok = end_application(0),
            {stop, shutdown, State}
    end.

%% What ends a server that is closed after it, and the application.
is_end({killed, _Peer}) -> true;
is_end({taken_over, _Pid}) -> true;
is_end(_Notice) -> false.

follow(running, State) ->
    {noreply, State};
follow(down, State) ->
    resume(State);
follow(_Ended, #state{server = Server} = State) ->
    case persistent_term:get(?MODULE, undefined) of
        %% Nobody asked for that: a new process starts a new server.
        Server ->
            _ = persistent_term:erase(?MODULE),
            {stop, server_closed, State};
        _ ->
            {noreply, State}
    end.

resume(#state{server = Server, resumed = Resumed} = State) ->
    Now = erlang:monotonic_time(millisecond),
    case Resumed + ?RESUME_INTERVAL - Now of
        Wait when Wait > 0 ->
            _ = erlang:send_after(Wait, self(), portmapper),
            {noreply, State};
        _ ->
            Phase = portmapper_nif:resume(Server),
            portmapper_log:resumed(Phase),
            %% Looks again: no message comes if there was no thread to be had.
            self() ! portmapper,
            {noreply, State#state{resumed = Now}}
    end.

%% A node that is there for the port mapper, which it started as a permanent
%% application, ends with it; one that does other work goes on. This process is
%% part of what is stopped, so another one does it. The server is let go of
%% before, so that nobody takes its end for a defect. (The application is not there
%% if {@link portmapper_epmd} has started the server: that learns of this process's
%% end.)
end_application(Status) ->
    ok = close(application),
    _ = spawn(fun() -> end_started(Status) end),
    ok.

-spec end_started(Status :: 0 | 1) -> ok | {error, term()}.
end_started(Status) ->
    Info = application:info(),
    Started = proplists:get_value(portmapper, proplists:get_value(started, Info, [])),
    case lists:keyfind(portmapper, 1, proplists:get_value(starting, Info, [])) of
        _ when Started =:= permanent ->
            init:stop(Status);
        false ->
            application:stop(portmapper);
        {portmapper, permanent, _Type, _Starter} ->
            init:stop(Status);
        _Starting ->
            %% It cannot be stopped before it is started.
            timer:sleep(10),
            end_started(Status)
    end.
